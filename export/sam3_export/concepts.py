"""The half of SAM 3 that finds every instance of a concept: its sizes, and the PyTorch network built from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import Sam3Model

    from sam3_export.architecture import Architecture

# CLIP's byte pair encoding.
VOCABULARY = 49408
_FULL_ATTENTION = "sdpa"


@dataclass(frozen=True)
class ConceptArchitecture:
    """The sizes of the concept half; the defaults are those of Meta's released checkpoint."""

    text_hidden_size: int = 1024
    text_num_hidden_layers: int = 24
    text_num_attention_heads: int = 16
    text_context_length: int = 32
    detr_encoder_layers: int = 6
    detr_decoder_layers: int = 6
    detr_num_attention_heads: int = 8
    detr_intermediate_size: int = 2048
    num_queries: int = 200
    geometry_layers: int = 3
    num_upsampling_stages: int = 3
    scoring_hidden_size: int = 2048

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"{field.name} must be a positive integer, not {value!r}")
        if self.text_hidden_size % self.text_num_attention_heads:
            raise ValueError(
                f"text_hidden_size ({self.text_hidden_size}) must be a multiple of text_num_attention_heads "
                f"({self.text_num_attention_heads})"
            )
        if self.scoring_hidden_size != self.detr_intermediate_size:
            raise ValueError(
                f"scoring_hidden_size ({self.scoring_hidden_size}) must equal detr_intermediate_size "
                f"({self.detr_intermediate_size})"
            )

    @classmethod
    def of_model(cls, model: Sam3Model) -> ConceptArchitecture:
        """The sizes of a loaded network."""
        config: Any = model.config
        return cls(
            text_hidden_size=config.text_config.hidden_size,
            text_num_hidden_layers=config.text_config.num_hidden_layers,
            text_num_attention_heads=config.text_config.num_attention_heads,
            text_context_length=config.text_config.max_position_embeddings,
            detr_encoder_layers=config.detr_encoder_config.num_layers,
            detr_decoder_layers=config.detr_decoder_config.num_layers,
            detr_num_attention_heads=config.detr_decoder_config.num_attention_heads,
            detr_intermediate_size=config.detr_decoder_config.intermediate_size,
            num_queries=config.detr_decoder_config.num_queries,
            geometry_layers=config.geometry_encoder_config.num_layers,
            num_upsampling_stages=config.mask_decoder_config.num_upsampling_stages,
            scoring_hidden_size=config.detr_decoder_config.intermediate_size,
        )

    def build(self, architecture: Architecture) -> ConceptNetwork:
        """Builds a network of these sizes with new weights, in evaluation mode, in fp32, on the CPU."""
        from transformers import Sam3Config

        hidden = architecture.fpn_hidden_size
        detr: dict[str, Any] = {
            "hidden_size": hidden,
            "num_attention_heads": self.detr_num_attention_heads,
            "intermediate_size": self.detr_intermediate_size,
        }
        config = Sam3Config(
            vision_config={
                "model_type": "sam3_vision_model",
                "backbone_config": {"model_type": "sam3_vit_model", "hidden_size": architecture.hidden_size},
                "fpn_hidden_size": hidden,
            },
            text_config={
                "model_type": "clip_text_model",
                "vocab_size": VOCABULARY,
                "hidden_size": self.text_hidden_size,
                "intermediate_size": 4 * self.text_hidden_size,
                "num_hidden_layers": self.text_num_hidden_layers,
                "num_attention_heads": self.text_num_attention_heads,
                "max_position_embeddings": self.text_context_length,
                "hidden_act": "gelu",
            },
            geometry_encoder_config={**detr, "num_layers": self.geometry_layers},
            detr_encoder_config={**detr, "num_layers": self.detr_encoder_layers},
            detr_decoder_config={**detr, "num_layers": self.detr_decoder_layers, "num_queries": self.num_queries},
            mask_decoder_config={
                "hidden_size": hidden,
                "num_attention_heads": self.detr_num_attention_heads,
                "num_upsampling_stages": self.num_upsampling_stages,
            },
        )
        return ConceptNetwork(config, architecture.layer_norm_eps).eval()


class ConceptNetwork(nn.Module):
    """transformers' `Sam3Model` without the trunk of its vision encoder, which clicks and concepts share.

    Only its parts are used, by the components: as a whole, transformers 5.23 answers texts without boxes wrongly (it
    leaves the geometry encoder's own token out).
    """

    def __init__(self, config: Any, layer_norm_eps: float) -> None:
        import transformers.models.sam3.modeling_sam3 as parts  # `from transformers import` would want torchvision
        from transformers import CLIPTextModelWithProjection

        super().__init__()
        self.config = config
        hidden, vision = config.detr_encoder_config.hidden_size, config.vision_config
        for part in (
            config.text_config,
            config.geometry_encoder_config,
            config.detr_encoder_config,
            config.detr_decoder_config,
            config.mask_decoder_config,
        ):
            part._attn_implementation = _FULL_ATTENTION
        # SAM 3's checkpoint has a fourth level, x 1/2, which the detector does not use.
        self.levels = nn.ModuleList(
            parts.Sam3FPNLayer(vision.backbone_config.hidden_size, vision.fpn_hidden_size, scale)
            for scale in (4.0, 2.0, 1.0)
        )
        self.text_encoder = CLIPTextModelWithProjection(config.text_config).text_model
        self.text_projection = nn.Linear(config.text_config.hidden_size, hidden)
        self.geometry_encoder = parts.Sam3GeometryEncoder(config.geometry_encoder_config)
        self.detr_encoder = parts.Sam3DetrEncoder(config.detr_encoder_config)
        self.detr_decoder = parts.Sam3DetrDecoder(config.detr_decoder_config)
        self.mask_decoder = parts.Sam3MaskDecoder(config.mask_decoder_config)
        self.dot_product_scoring = parts.Sam3DotProductScoring(config)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = layer_norm_eps
