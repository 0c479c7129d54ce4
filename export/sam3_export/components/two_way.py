"""Runs transformers' two-way transformer layer by layer, because its forward takes no mask for tokens to ignore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers.models.sam3_tracker.modeling_sam3_tracker import (
        Sam3TrackerTwoWayAttentionBlock,
        Sam3TrackerTwoWayTransformer,
    )


def two_way(
    transformer: Sam3TrackerTwoWayTransformer, tokens: Tensor, image: Tensor, positions: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Runs `transformer` with a bias on the attention to each token.

    Args:
        tokens: fp32 [B, 1, T, C], the decoder's own tokens and the prompt's.
        image: fp32 [B, C, g, g]; positions: the same shape, the image's positional embedding.
        bias: fp32 [B, 1, 1, T], added to the attention scores wherever tokens are the keys: in self-attention, and in
            attention from the image. In attention to the image the keys are pixels, so none is needed. None is zero.
    Returns: (tokens [B, 1, T, C], image [B, 1, g * g, C]).
    """
    pixels, positions = (grid.flatten(2).transpose(1, 2).unsqueeze(1) for grid in (image, positions))
    seen = tokens
    for block in transformer.layers:
        seen, pixels = _block(block, tokens, seen, pixels, positions, bias)
    attended, _ = transformer.final_attn_token_to_image(seen + tokens, pixels + positions, pixels)
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
        seen, _ = block.self_attn(seen, seen, seen, bias)
    else:
        placed = seen + tokens
        attended, _ = block.self_attn(placed, placed, seen, bias)
        seen = seen + attended
    seen = block.layer_norm1(seen)
    located = pixels + positions
    attended, _ = block.cross_attn_token_to_image(seen + tokens, located, pixels)
    seen = block.layer_norm2(seen + attended)
    seen = block.layer_norm3(seen + block.mlp(seen))
    attended, _ = block.cross_attn_image_to_token(located, seen + tokens, seen, bias)
    return seen, block.layer_norm4(pixels + attended)
