"""The PyTorch modules of the concept detector: SAM 3's DETR encoder and decoder, scoring and segmentation head.

They run transformers' parts, but not their forward methods: those cannot be exported, and leave out the geometry
encoder's own token if there is no example box.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3_export.components.attention import hide
from sam3_export.components.box_examples import EMPTY, BoxExamples, frequencies, sines

if TYPE_CHECKING:
    from sam3_export.concept_network import ConceptNetwork

# Meta measures distances from a box's edges on this logarithmic scale.
_DISTANCE_SCALE = 8


class ConceptDetector(nn.Module):
    """Finds the instances of a concept, given by a text, by example boxes, or both.

    Args of `forward` (g = 72 for SAM 3):
        backbone_features: [B, D, g, g], as `ImageEncoder` or `ServedImageEncoder` returns them: minus their centre.
        text_features: fp32 [B, T, C], as `TextEncoder` returns them.
        text_mask: bool [B, T], true for a token, false for padding.
        box_coords: fp32 [B, N, 4], cx cy w h as fractions of the image's sides.
        box_labels: int32 [B, N]; 1 more like this, 0 not this, -10 an empty slot, which changes nothing.
        ranks: int32 [B, K], the instances whose boxes and masks are returned; 0 is the best of the Q queries.
    Returns: (scores fp32 [B, Q], of all queries, the best first: the query's probability times `presence`;
        boxes fp32 [B, K, 4], cx cy w h as fractions; mask_logits [B, K, 4g, 4g]; presence fp32 [B, 1], the probability
        that the concept is in the image).
    """

    centre: Tensor
    positions: Tensor
    cells: Tensor
    frequencies: Tensor

    def __init__(self, network: ConceptNetwork, grid: int, centre: Tensor) -> None:
        """
        Args:
            grid: side of the features, in patches.
            centre: of the backbone features, see `image_encoder.centre_of`.
        """
        super().__init__()
        self.register_buffer("centre", centre)
        self.levels = network.levels
        self.box_examples = BoxExamples(network.geometry_encoder, grid)
        self.encoder = network.detr_encoder
        self.decoder = network.detr_decoder
        self.scoring = network.dot_product_scoring
        self.masks = network.mask_decoder
        channels = network.config.detr_decoder_config.hidden_size
        # Buffers, so that they stay in fp32 when weights become fp16 or bf16, like every encoding of coordinates.
        self.register_buffer("positions", _positions(grid, channels))
        self.register_buffer("cells", torch.arange(grid, dtype=torch.float32) / grid)
        self.register_buffer("frequencies", frequencies(channels // 2))

    def forward(
        self,
        backbone_features: Tensor,
        text_features: Tensor,
        text_mask: Tensor,
        box_coords: Tensor,
        box_labels: Tensor,
        ranks: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        # In fp16 both are fp16; in bf16, sums are fp32.
        products, sums = next(self.levels.parameters()).dtype, self.decoder.query_embed.weight.dtype
        backbone_features = backbone_features.to(sums) + self.centre.to(sums)
        fine, middle, coarse = (level(backbone_features) for level in self.levels)
        rows = coarse.flatten(2).transpose(1, 2).to(sums)
        positions = self.positions.to(sums)
        examples = self.box_examples(coarse, rows, rows + positions, box_coords, box_labels)
        prompt = torch.cat([text_features.to(sums), examples], dim=1)
        seen = torch.cat([text_mask, F.pad(box_labels != EMPTY, (0, 1), value=True)], dim=1)
        bias = hide(~seen, products)[:, None, None]
        pixels = self._encode(rows, positions, prompt, bias)
        queries, boxes, presence = self._decode(pixels, positions, prompt, bias)
        scores = self._logits(queries, prompt, seen).sigmoid() * presence.sigmoid()
        scores, order = scores.topk(self.decoder.query_embed.weight.shape[0], dim=1)
        chosen = order.gather(1, ranks.long()).unsqueeze(2)
        boxes = boxes.gather(1, chosen.expand(-1, -1, 4))
        queries = queries.gather(1, chosen.expand(-1, -1, queries.shape[2]))
        logits = self._mask_logits(queries, (fine, middle), pixels, prompt, bias)
        return scores, boxes, logits, presence.sigmoid()

    def _encode(self, pixels: Tensor, positions: Tensor, prompt: Tensor, bias: Tensor) -> Tensor:
        """Pixels [B, g * g, C] that have attended to each other and to the prompt."""
        for layer in self.encoder.layers:
            normed = layer.layer_norm1(pixels)
            located = normed + positions
            pixels = pixels + layer.self_attn(located, located, normed)[0]
            pixels = pixels + layer.cross_attn(layer.layer_norm2(pixels), prompt, prompt, bias)[0]
            pixels = pixels + layer.mlp(layer.layer_norm3(pixels))
        return pixels

    def _decode(self, pixels: Tensor, positions: Tensor, prompt: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, Q, C], their boxes fp32 [B, Q, 4], and the logit of presence fp32 [B, 1]."""
        decoder, batch = self.decoder, pixels.shape[0]
        located = pixels + positions
        tokens = torch.cat([decoder.presence_token.weight, decoder.query_embed.weight])
        tokens = tokens.expand(batch, -1, -1)
        boxes = decoder.reference_points.weight.sigmoid().expand(batch, -1, -1)
        for layer in decoder.layers:
            # The first token is that of presence: it has no place, and sees all pixels alike.
            places = F.pad(decoder.ref_point_head(self._box_sines(boxes)).to(tokens.dtype), (0, 0, 1, 0))
            nearness = F.pad(self._nearness(boxes).to(bias.dtype), (0, 0, 1, 0))
            placed = tokens + places
            tokens = layer.self_attn_layer_norm(tokens + layer.self_attn(placed, placed, tokens)[0])
            attended = layer.text_cross_attn(tokens + places, prompt, prompt, bias)[0]
            tokens = layer.text_cross_attn_layer_norm(tokens + attended)
            attended = layer.vision_cross_attn(tokens + places, located, pixels, nearness)[0]
            tokens = layer.vision_cross_attn_layer_norm(tokens + attended)
            tokens = layer.mlp_layer_norm(tokens + layer.mlp(tokens))
            queries = decoder.output_layer_norm(tokens[:, 1:])
            moved = decoder.box_head(queries.to(decoder.box_head.layer1.weight.dtype))
            boxes = (moved + _logit(boxes)).sigmoid()
        token = decoder.presence_layer_norm(tokens[:, :1])
        presence = decoder.presence_head(token.to(decoder.presence_head.layer1.weight.dtype)).squeeze(2)
        bound = decoder.clamp_presence_logit_max_val
        return queries, boxes, presence.clamp(-bound, bound)

    def _box_sines(self, boxes: Tensor) -> Tensor:
        """Encodes boxes [B, Q, 4] by sines, [B, Q, 2C]."""
        x, y, width, height = (sines(side, self.frequencies) for side in boxes.unbind(2))
        return torch.cat([y, x, width, height], dim=2)

    def _nearness(self, boxes: Tensor) -> Tensor:
        """The box-relative position bias on each query's attention to pixels, [B, heads, Q, g * g]."""
        centres, half = boxes[..., :2], boxes[..., 2:] / 2
        edges = torch.stack([centres - half, centres + half], dim=3)  # [B, Q, x and y, low and high]
        distances = _DISTANCE_SCALE * (self.cells[:, None] - edges.unsqueeze(3))  # [B, Q, 2, g, 2]
        distances = distances.sign() * (distances.abs() + 1).log2() / math.log2(_DISTANCE_SCALE)
        across = self.decoder.box_rpb_embed_x(distances[:, :, 0]).permute(0, 3, 1, 2)  # [B, heads, Q, g]
        down = self.decoder.box_rpb_embed_y(distances[:, :, 1]).permute(0, 3, 1, 2)
        return (down.unsqueeze(4) + across.unsqueeze(3)).flatten(3)

    def _logits(self, queries: Tensor, prompt: Tensor, seen: Tensor) -> Tensor:
        """The logits of queries, by their likeness to the prompt; fp32 [B, Q]."""
        scoring = self.scoring
        prompt = prompt.to(scoring.text_proj.weight.dtype)
        words = scoring.text_mlp_out_norm(scoring.text_mlp(prompt) + prompt).to(prompt.dtype)
        share = seen.unsqueeze(2).to(prompt.dtype)
        pooled = (words * share).sum(1) / share.sum(1)  # the box encoder's own token is always seen
        projected = scoring.text_proj(pooled).unsqueeze(2)
        logits = (scoring.query_proj(queries.to(prompt.dtype)) @ projected).squeeze(2) * scoring.scale
        return logits.clamp(-scoring.clamp_max_val, scoring.clamp_max_val)

    def _mask_logits(
        self, queries: Tensor, finer: tuple[Tensor, Tensor], pixels: Tensor, prompt: Tensor, bias: Tensor
    ) -> Tensor:
        """Mask logits [B, K, 4g, 4g] of the chosen queries [B, K, C].

        Args:
            finer: the fine and the middle features, [B, C, 4g, 4g] and [B, C, 2g, 2g].
        """
        head = self.masks
        pixels = pixels + head.prompt_cross_attn(head.prompt_cross_attn_norm(pixels), prompt, prompt, bias)[0]
        grid = self.box_examples.grid
        pyramid = head.pixel_decoder
        features = pixels.transpose(1, 2).unflatten(2, (grid, grid))
        for finer_features, convolve, norm in zip(finer[::-1], pyramid.conv_layers, pyramid.norms, strict=False):
            features = F.interpolate(features, scale_factor=2, mode="nearest") + finer_features
            features = norm(convolve(features)).relu()
        features = head.instance_projection(features)
        masks = head.mask_embedder(queries) @ features.flatten(2)
        return masks.unflatten(2, features.shape[2:])


class ServedConceptDetector(nn.Module):
    """A `ConceptDetector` that returns fp16 mask logits, whatever dtype it computes in."""

    def __init__(self, detector: ConceptDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self,
        backbone_features: Tensor,
        text_features: Tensor,
        text_mask: Tensor,
        box_coords: Tensor,
        box_labels: Tensor,
        ranks: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `ConceptDetector`."""
        scores, boxes, logits, presence = self.detector(
            backbone_features, text_features, text_mask, box_coords, box_labels, ranks
        )
        return scores, boxes, logits.half(), presence


def _logit(shares: Tensor) -> Tensor:
    """The inverse of the sigmoid, bounded as Meta bounds it."""
    shares = shares.clamp(0, 1)
    return (shares.clamp(min=1e-3) / (1 - shares).clamp(min=1e-3)).log()


def _positions(grid: int, channels: int) -> Tensor:
    """Meta's sine encoding of the grid's cells, fp32 [1, g * g, C]: rows in the first half, columns in the second."""
    along = torch.arange(1, grid + 1, dtype=torch.float32)
    encoded = sines(along / (along[-1] + 1e-6), frequencies(channels // 2))
    down, across = encoded[:, None].expand(-1, grid, -1), encoded[None].expand(grid, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1).unsqueeze(0)
