"""The text encoder: turns a tokenized text into the features that the concept detector needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam3_export.architecture import Architecture
from sam3_export.components import concept_prompts
from sam3_export.components.attention import hide
from sam3_export.components.component import Component, References
from sam3_export.spec import BATCH, BF16_DRIFT, FP16_DRIFT, Arrays, Bounds, ComponentSpec, TensorSpec

if TYPE_CHECKING:
    from sam3_export.checkpoint import Checkpoint
    from sam3_export.concept_network import ConceptNetwork

NAME = "sam3_text_encoder"
FEATURES = "TEXT_FEATURES"
# Measured with ONNX Runtime at SAM 3's own size with random weights: 1e-6.
TOLERANCE = 1e-4
# fp16 rounds to 11 bits in every layer.
FP16_TOLERANCE = 2e-2
# Measured on the golden checkpoint: 1.4e-3.
BF16_TOLERANCE = 2e-2
_PARITY_SEED = 1000


class TextEncoder(nn.Module):
    """CLIP's causal text tower, and a projection to the detector's width.

    Args of `forward`: `tokens` int32 [B, T], CLIP's ids; 0 is padding. T = 32 for SAM 3.
    Returns: text_features fp32 [B, T, C], of padding too; C = 256 for SAM 3.
    """

    def __init__(self, network: ConceptNetwork) -> None:
        super().__init__()
        self.text_encoder = network.text_encoder
        self.projection = network.text_projection
        length = network.config.text_config.max_position_embeddings
        # A token sees those before it. Meta passes no other mask: nothing before padding sees it.
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        self.register_buffer("bias", hide(later, torch.float32)[None, None])

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """See the class."""
        embeddings = self.text_encoder.embeddings
        hidden = embeddings.token_embedding(tokens) + embeddings.position_embedding.weight
        for layer in self.text_encoder.encoder.layers:
            hidden = layer(hidden, self.bias.to(layer.self_attn.q_proj.weight.dtype))
        return (self.projection(self.text_encoder.final_layer_norm(hidden)).float(),)


def features(architecture: Architecture) -> TensorSpec:
    """The text's features: the output of the text encoder, and an input of the concept detector."""
    assert architecture.concepts is not None
    length = architecture.concepts.text_context_length
    return TensorSpec(FEATURES, "float32", (BATCH, length, architecture.fpn_hidden_size))


def spec(architecture: Architecture) -> ComponentSpec:
    """The spec of `TextEncoder`, in the order of its arguments and results."""
    assert architecture.concepts is not None
    return ComponentSpec(
        model_name=NAME,
        title="text encoder",
        inputs=(TensorSpec("TOKENS", "int32", (BATCH, architecture.concepts.text_context_length)),),
        outputs=(features(architecture),),
        tolerances={FEATURES: TOLERANCE},
        # No int8: a text is encoded once, and then cached.
        variants={
            "fp16": Bounds({FEATURES: FP16_TOLERANCE}, drift=FP16_DRIFT),
            "bf16": Bounds({FEATURES: BF16_TOLERANCE}, drift=BF16_DRIFT),
        },
    )


def _module(checkpoint: Checkpoint) -> TextEncoder:
    assert checkpoint.concepts is not None
    return TextEncoder(checkpoint.concepts)


def _inputs(architecture: Architecture, references: References) -> Sequence[tuple[str, Arrays]]:
    return [
        (f"{count} texts", {"TOKENS": concept_prompts.tokens(architecture, count, _PARITY_SEED)}) for count in (1, 3)
    ]


def _sample(architecture: Architecture, references: References) -> Arrays:
    return {"TOKENS": concept_prompts.tokens(architecture, 2, seed=0)}


COMPONENT = Component(name=NAME, spec=spec, module=_module, inputs=_inputs, sample=_sample)
