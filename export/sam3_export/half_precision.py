"""Converts a component to fp16, except where rounding would show.

These stay in fp32: layer and group norms, the softmax of attention, coordinates and their encodings (buffers, not
weights), the layers that compute coordinates, scores and presence, and what a caller gets of these. Features between
encoder and decoders are fp16.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_FP32_SOFTMAX = "sam3_fp32_softmax"
_NORMS = nn.LayerNorm, nn.GroupNorm
# Of the mask decoder, then of the concept detector.
_FP32_PARTS = {
    "iou_prediction_head",
    "box_head",
    "presence_head",
    "ref_point_head",
    "reference_points",
    "box_rpb_embed_x",
    "box_rpb_embed_y",
    "boxes_direct_project",
    "boxes_pos_enc_project",
    "scoring",
}


def half(module: nn.Module, own_softmax: bool) -> nn.Module:
    """A copy of a component's module in fp16.

    Args:
        own_softmax: writes the encoder's attention out as two products with a softmax in fp32 between them. Otherwise
            it is PyTorch's `scaled_dot_product_attention`, whose kernels keep the softmax in fp32 themselves. The
            decoder's is always written out (`components/two_way.py`).
    """
    twin = copy.deepcopy(module)
    kept = set(_kept_in_fp32(twin))
    for part in twin.modules():
        if part in kept:
            continue
        for weight in part.parameters(recurse=False):
            weight.data = weight.data.half()
    for part in twin.modules():
        if isinstance(part, _NORMS):
            part.register_forward_pre_hook(_to_fp32)
            part.register_forward_hook(_to_fp16)
    if own_softmax:
        _use_fp32_softmax(twin)
    return twin


def _kept_in_fp32(module: nn.Module) -> Iterator[nn.Module]:
    for name, part in module.named_modules():
        if isinstance(part, _NORMS) or _FP32_PARTS.intersection(name.split(".")):
            yield part


def _to_fp32(part: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(argument.float() for argument in arguments)


def _to_fp16(part: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> Tensor:
    return result.half()


def _use_fp32_softmax(module: nn.Module) -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(_FP32_SOFTMAX, _attention)
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if config is not None:
            config._attn_implementation = _FP32_SOFTMAX


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [B, H, Q, D], key and value [B, H, K, D] to [B, Q, H, D]."""
    # Scaled before the product, which would otherwise come closer to 65504, the largest fp16 value.
    scores = ((query * scaling) @ key.transpose(2, 3)).float()
    if attention_mask is not None:
        scores = scores + attention_mask.float()
    shares = torch.softmax(scores, dim=-1).to(value.dtype)
    return (shares @ value).transpose(1, 2).contiguous(), None
