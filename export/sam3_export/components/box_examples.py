"""Encodes example boxes, as Meta's geometry encoder does, with transformers' weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam3_export.components.attention import hide

if TYPE_CHECKING:
    from transformers.models.sam3.modeling_sam3 import Sam3GeometryEncoder

# The label of an empty slot, as in Meta's and transformers' code.
EMPTY = -10
# Meta encodes coordinates by these sines: positions in 0..1 times 2 pi, over powers of 10000.
_SCALE, _TEMPERATURE = 2 * math.pi, 10000


class BoxExamples(nn.Module):
    """The prompt tokens of N example boxes, and one token of the encoder's own, which is there also without a box.

    transformers' module is not run itself: it needs torchvision for `roi_align`, and skips its own token without boxes.
    """

    bins: Tensor
    samples: Tensor
    cells: Tensor
    frequencies: Tensor

    def __init__(self, encoder: Sam3GeometryEncoder, grid: int) -> None:
        """
        Args:
            grid: side of the features, in patches.
        """
        super().__init__()
        self.encoder = encoder
        self.grid = grid
        # Along each axis, Meta averages ceil(size / bins) samples in a bin. A box of twice the picture's size is the
        # largest for which that is followed; in a larger one the samples are further apart.
        self.most_samples = 2 * -(-grid // encoder.roi_size)
        for name, values in (
            ("bins", torch.arange(encoder.roi_size, dtype=torch.float32)),
            ("samples", torch.arange(self.most_samples, dtype=torch.float32)),
            ("cells", torch.arange(grid, dtype=torch.float32)),
            ("frequencies", frequencies(encoder.hidden_size // 2)),
        ):
            self.register_buffer(name, values)

    def forward(self, coarse: Tensor, rows: Tensor, located: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Encodes the boxes of B images.

        Args:
            coarse: the coarsest features [B, C, g, g]; rows: the same as [B, g * g, C]; located: rows with positions.
            boxes: fp32 [B, N, 4], cx cy w h as fractions of the image.
            labels: int32 [B, N]; 1 positive, 0 negative, -10 an empty slot.
        Returns: prompt tokens [B, N + 1, C], the encoder's own last.
        """
        encoder, dtype = self.encoder, rows.dtype
        tokens = self._boxes(coarse, boxes, (labels == 1).long())
        own = encoder.cls_embed.weight.unsqueeze(0).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([tokens, own.to(tokens.dtype)], dim=1)
        tokens = encoder.prompt_layer_norm(encoder.final_proj(tokens.to(dtype)))
        products = encoder.final_proj.weight.dtype
        bias = hide(nn.functional.pad(labels == EMPTY, (0, 1)), products)[:, None, None]
        for layer in encoder.layers:
            seen = layer.layer_norm1(tokens)
            tokens = tokens + layer.self_attn(seen, seen, seen, bias)[0]
            tokens = tokens + layer.cross_attn(layer.layer_norm2(tokens), located, rows)[0]
            tokens = tokens + layer.mlp(layer.layer_norm3(tokens))
        return encoder.output_layer_norm(tokens)

    def _boxes(self, coarse: Tensor, boxes: Tensor, positive: Tensor) -> Tensor:
        """Embeds boxes by their coordinates, their place and what is in them; [B, N, C]."""
        encoder = self.encoder
        boxes = boxes.to(encoder.boxes_direct_project.weight.dtype)
        normed = encoder.vision_layer_norm(coarse.permute(0, 2, 3, 1))
        x, y, width, height = boxes.unbind(2)
        across, down = self._averages(x, width), self._averages(y, height)  # [B, N, bins, g]
        pooled = down.flatten(1, 2) @ normed.to(down.dtype).flatten(2)  # [B, N * bins, g * C]
        pooled = pooled.unflatten(1, down.shape[1:3]).unflatten(3, (self.grid, -1))  # [B, N, bins, g, C]
        pooled = across.unsqueeze(2) @ pooled  # [B, N, bins y, bins x, C]
        # The convolution spans all bins, so it is one product with its weights.
        projection = encoder.boxes_pool_project
        weight = projection.weight.permute(2, 3, 1, 0).flatten(0, 2)
        pooled = pooled.flatten(2).to(weight.dtype) @ weight + projection.bias
        place = torch.cat(
            [
                sines(y, self.frequencies),
                sines(x, self.frequencies),
                height.unsqueeze(2),
                width.unsqueeze(2),
            ],
            dim=2,
        )
        direct = encoder.boxes_direct_project(boxes) + encoder.boxes_pos_enc_project(place)
        return encoder.label_embed(positive) + direct + pooled

    def _averages(self, centre: Tensor, size: Tensor) -> Tensor:
        """The shares of the cells along one axis in each bin of a box, as torchvision's `roi_align` takes them with
        `aligned=False` and `sampling_ratio=-1`.

        Args:
            centre, size: fp32 [B, N], as fractions of the axis.
        Returns: fp32 [B, N, bins, g]
        """
        size = size * self.grid
        start = centre * self.grid - size / 2
        bin_size = size.clamp(min=1) / self.encoder.roi_size
        count = bin_size.ceil().clamp(max=self.most_samples)[..., None, None]
        place = self.bins[:, None] + (self.samples + 0.5) / count  # in bins
        place = start[..., None, None] + bin_size[..., None, None] * place  # [B, N, bins, samples], in cells
        used = (self.samples < count) & (place >= -1) & (place <= self.grid)
        near = 1 - (place.clamp(0, self.grid - 1).unsqueeze(4) - self.cells).abs()
        shares = near.clamp(min=0) * used.unsqueeze(4).to(near.dtype)
        return shares.sum(3) / count


def frequencies(count: int) -> Tensor:
    """The divisors of `count` sines, in pairs of equal ones."""
    pairs = torch.arange(count, dtype=torch.int64) // 2
    return _TEMPERATURE ** (2 * pairs.float() / count)


def sines(places: Tensor, divisors: Tensor) -> Tensor:
    """Encodes places in 0..1, fp32 [...], as sines and cosines in turn, [..., C]."""
    phases = (places * _SCALE).unsqueeze(-1) / divisors
    return torch.stack([phases[..., 0::2].sin(), phases[..., 1::2].cos()], dim=-1).flatten(-2)
