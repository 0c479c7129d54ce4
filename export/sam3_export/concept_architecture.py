"""The sizes of the half of SAM 3 that finds every instance of a concept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Sam3Model


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
