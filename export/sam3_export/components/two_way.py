"""Runs transformers' two-way transformer layer by layer, with its attention written out.

transformers' forward takes no mask for tokens to ignore. And its attention splits the pixels' heads by transposing
them, and takes a softmax over a dozen tokens for each pixel and head: both are slow in ONNX Runtime on a CPU. Here
pixels are the last axis of every product, so heads split without a copy and each softmax runs along the pixels.
Measured on a CPU: 37 % less time for the decoder of the demonstration checkpoint, 7 % at SAM 3's own size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.models.sam3_tracker.modeling_sam3_tracker import (
        Sam3TrackerAttention,
        Sam3TrackerTwoWayAttentionBlock,
        Sam3TrackerTwoWayTransformer,
    )


def two_way(
    transformer: Sam3TrackerTwoWayTransformer, tokens: Tensor, pixels: Tensor, positions: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Runs `transformer` on P objects of B images, with a bias on the attention to each token.

    Args:
        tokens: fp32 [B, P, T, C], the decoder's own tokens and the prompts'.
        pixels: fp32 [B, P, G, C], the image embedding's G = g * g pixels with each object's mask.
        positions: fp32 [1, 1, G, C], the image's positional embedding.
        bias: fp32 [B, P, 1, 1, T], added to the attention scores wherever tokens are the keys: in self-attention, and
            in attention from the image. In attention to the image the keys are pixels, so none is needed. None is zero.
    Returns: (tokens [B, P, T, C], pixels [B, P, G, C]).
    """
    seen = tokens
    for block in transformer.layers:
        seen, pixels = _block(block, tokens, seen, pixels, positions, bias)
    attended = _attend_to_pixels(transformer.final_attn_token_to_image, seen + tokens, pixels + positions, pixels)
    return transformer.layer_norm_final_attn(seen + attended), pixels


def _block(
    block: Sam3TrackerTwoWayAttentionBlock,
    tokens: Tensor,
    seen: Tensor,
    pixels: Tensor,
    positions: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One block. `tokens`, as first passed in, are the positional embedding of `seen`, their current values."""
    if block.skip_first_layer_pe:
        seen = _attend_to_tokens(block.self_attn, seen, seen, bias)
    else:
        seen = seen + _attend_to_tokens(block.self_attn, seen + tokens, seen, bias)
    seen = block.layer_norm1(seen)
    located = pixels + positions
    seen = block.layer_norm2(seen + _attend_to_pixels(block.cross_attn_token_to_image, seen + tokens, located, pixels))
    seen = block.layer_norm3(seen + block.mlp(seen))
    attended = _attend_from_pixels(block.cross_attn_image_to_token, located, seen + tokens, seen, bias)
    return seen, block.layer_norm4(pixels + attended)


def _attend_to_tokens(attention: Sam3TrackerAttention, placed: Tensor, tokens: Tensor, bias: Tensor | None) -> Tensor:
    """Self-attention of tokens; `placed` are the tokens with their positions. Returns [B, P, T, C]."""
    query, key = (_split(attention, project(placed)) for project in (attention.q_proj, attention.k_proj))
    scores = _widened(query * attention.scaling @ key.transpose(3, 4))
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    value = _split(attention, attention.v_proj(tokens))
    return _merged(attention, scores.softmax(4).to(value.dtype) @ value)


def _attend_to_pixels(attention: Sam3TrackerAttention, tokens: Tensor, located: Tensor, pixels: Tensor) -> Tensor:
    """Attention from tokens to pixels; `located` are the pixels with their positions. Returns [B, P, T, C]."""
    query = _split(attention, attention.q_proj(tokens))
    key = _split_pixels(attention, attention.k_proj, located)
    scores = _widened(query * attention.scaling @ key)
    value = _split_pixels(attention, attention.v_proj, pixels)
    return _merged(attention, scores.softmax(4).to(value.dtype) @ value.transpose(3, 4))


def _attend_from_pixels(
    attention: Sam3TrackerAttention, located: Tensor, placed: Tensor, tokens: Tensor, bias: Tensor | None
) -> Tensor:
    """Attention from pixels to tokens; `placed` are the tokens with their positions. Returns [B, P, G, C]."""
    query = _split_pixels(attention, attention.q_proj, located)
    key = _split(attention, attention.k_proj(placed))
    scores = _widened(key * attention.scaling @ query)  # [B, P, heads, T, G]
    if bias is not None:
        scores = scores + bias.to(scores.dtype).transpose(3, 4)
    # A softmax over T, written out: for `softmax(3)`, ONNX Runtime would transpose.
    shares = (scores - scores.amax(3, keepdim=True)).exp()
    value = _split(attention, attention.v_proj(tokens))
    shares = (shares / shares.sum(3, keepdim=True)).to(value.dtype)
    attended = (value.transpose(3, 4) @ shares).flatten(2, 3)  # [B, P, D, G]
    return attention.o_proj(attended.transpose(2, 3))


def _widened(scores: Tensor) -> Tensor:
    """Attention scores for a softmax, which takes fp32 also where weights are fp16."""
    return scores.float() if scores.dtype == torch.float16 else scores


def _split(attention: Sam3TrackerAttention, tokens: Tensor) -> Tensor:
    """Projected tokens [B, P, T, D] by head, [B, P, heads, T, D / heads]."""
    return tokens.unflatten(3, (attention.num_attention_heads, attention.head_dim)).transpose(2, 3)


def _split_pixels(attention: Sam3TrackerAttention, projection: nn.Linear, pixels: Tensor) -> Tensor:
    """Projects pixels [B, P, G, C] and splits them by head, [B, P, heads, D / heads, G]."""
    projected = projection.weight @ pixels.transpose(2, 3) + projection.bias.unsqueeze(1)
    return projected.unflatten(2, (attention.num_attention_heads, attention.head_dim))


def _merged(attention: Sam3TrackerAttention, heads: Tensor) -> Tensor:
    """The output projection of tokens by head, [B, P, heads, T, D / heads]."""
    return attention.o_proj(heads.transpose(2, 3).flatten(3))
