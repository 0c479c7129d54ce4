"""Converts a component to fp16 or bf16, except where rounding would show.

These stay in fp32: layer and group norms, the softmax of attention, coordinates and their encodings (buffers, not
weights), the layers that compute coordinates, scores and presence, and what a caller gets of these. Features between
encoder and decoders are fp16.

The concept detector also keeps the sums between its layers in fp32. With sums in fp16
its mask logits and scores were 1.7 times as far from fp32's (the golden concepts), and on one CPU a mask in 148 had an
IoU of 0.96 with Meta's.

bf16 has 8 significant bits, too few for a sum over 32 layers. So there only products with weights and attention are in
bf16. Everything else is in fp32, as where Meta's predictor runs the network under `torch.autocast`.
The mask decoder stays in fp32 altogether. It has 1 % of the weights, and in bf16 it added as much error as the image
encoder: the lowest IoU of 108 masks with those of fp32 was 0.974, with it in fp32 0.984 (SAM 3's own size with random
weights and pictures of 336 x 336).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sam3_export.components.detector_modules import ServedConceptDetector
from sam3_export.components.mask_decoder import MaskDecoder

_FP32_SOFTMAX = "sam3_fp32_softmax"
_NORMS = nn.LayerNorm, nn.GroupNorm
_PRODUCTS = nn.Linear, nn.Conv2d, nn.ConvTranspose2d
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


def half(module: nn.Module, own_softmax: bool, dtype: torch.dtype = torch.float16) -> nn.Module:
    """A copy of a component's module in fp16 or bf16.

    Args:
        own_softmax: writes the encoder's attention out as two products with a softmax in fp32 between them. Otherwise
            it is PyTorch's `scaled_dot_product_attention`, whose kernels keep the softmax in fp32 themselves. The
            decoder's is always written out (`components/two_way.py`).
        dtype: `torch.float16` or `torch.bfloat16`.
    """
    twin = copy.deepcopy(module)
    if isinstance(twin, ServedConceptDetector):
        _convert_products(twin, dtype)
    elif dtype != torch.bfloat16:
        _convert_all_but_norms(twin, dtype)
    elif not isinstance(twin, MaskDecoder):
        _convert_products(twin, dtype)
    if own_softmax:
        _use_fp32_softmax(twin)
    return twin


def _convert_all_but_norms(module: nn.Module, dtype: torch.dtype) -> None:
    """Weights, and what every layer returns, in `dtype`."""
    for part in _convertible(module):
        _convert(part, dtype)
    for part in module.modules():
        if isinstance(part, _NORMS):
            part.register_forward_pre_hook(_arguments_to(torch.float32))
            part.register_forward_hook(_result_to(dtype))


def _convert_products(module: nn.Module, dtype: torch.dtype) -> None:
    """The layers that multiply with a matrix in `dtype`; embeddings and norms stay in fp32, so that sums do."""
    from transformers.models.sam3.modeling_sam3 import Sam3ViTLayer

    for part in _convertible(module):
        if isinstance(part, _PRODUCTS):
            _convert(part, dtype)
            part.register_forward_pre_hook(_arguments_to(dtype))
    for part in module.modules():
        if isinstance(part, _NORMS):
            part.register_forward_pre_hook(_arguments_to(torch.float32))
        if isinstance(part, Sam3ViTLayer):  # four products take what its norms return: round it once
            for norm in (part.layer_norm1, part.layer_norm2):
                norm.register_forward_hook(_result_to(dtype))


def _convertible(module: nn.Module) -> Iterator[nn.Module]:
    for name, part in module.named_modules():
        if not (isinstance(part, _NORMS) or _FP32_PARTS.intersection(name.split("."))):
            yield part


def _convert(part: nn.Module, dtype: torch.dtype) -> None:
    for weight in part.parameters(recurse=False):
        weight.data = weight.data.to(dtype)


def _arguments_to(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda part, arguments: tuple(argument.to(dtype) for argument in arguments)


def _result_to(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda part, arguments, result: result.to(dtype)


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
