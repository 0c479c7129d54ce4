"""The half of SAM 3 that finds every instance of a concept, as a PyTorch network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from sam3_export.architecture import Architecture

# CLIP's byte pair encoding.
VOCABULARY = 49408
_FULL_ATTENTION = "sdpa"


def build(architecture: Architecture) -> ConceptNetwork:
    """Builds a network of these sizes with new weights, in evaluation mode, in fp32, on the CPU."""
    from transformers import Sam3Config

    sizes = architecture.concepts
    assert sizes is not None
    hidden = architecture.fpn_hidden_size
    detr: dict[str, Any] = {
        "hidden_size": hidden,
        "num_attention_heads": sizes.detr_num_attention_heads,
        "intermediate_size": sizes.detr_intermediate_size,
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
            "hidden_size": sizes.text_hidden_size,
            "intermediate_size": 4 * sizes.text_hidden_size,
            "num_hidden_layers": sizes.text_num_hidden_layers,
            "num_attention_heads": sizes.text_num_attention_heads,
            "max_position_embeddings": sizes.text_context_length,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={**detr, "num_layers": sizes.geometry_layers},
        detr_encoder_config={**detr, "num_layers": sizes.detr_encoder_layers},
        detr_decoder_config={**detr, "num_layers": sizes.detr_decoder_layers, "num_queries": sizes.num_queries},
        mask_decoder_config={
            "hidden_size": hidden,
            "num_attention_heads": sizes.detr_num_attention_heads,
            "num_upsampling_stages": sizes.num_upsampling_stages,
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
