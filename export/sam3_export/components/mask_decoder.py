"""The mask decoder: turns the features of an image and the prompts of its objects into masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3_export.architecture import Architecture
from sam3_export.components import click_prompts, image_encoder
from sam3_export.components.attention import hide
from sam3_export.components.click_prompts import EMPTY
from sam3_export.components.component import Component, References
from sam3_export.components.two_way import two_way
from sam3_export.spec import (
    BATCH,
    BF16_DRIFT,
    FP16_DRIFT,
    FP32_DRIFT,
    MASK_INPUTS,
    MASKS,
    OBJECTS,
    POINTS,
    Arrays,
    Bounds,
    ComponentSpec,
    TensorSpec,
)

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

NAME = "sam3_mask_decoder"
# For well-conditioned weights. Measured with ONNX Runtime: 8e-7 at SAM 3's own size with random weights of the usual
# scale, but 9e-5 at three times that scale, where attention is nearly hard and amplifies rounding. Therefore the gate
# widens these for weights that amplify more (`parity.widen`). A swapped tensor is off by 0.1, fp16 by 1e-3.
LOGIT_TOLERANCE = SCORE_TOLERANCE = 2e-4
# fp16 rounds to 11 bits in every layer. Measured: 2e-3 on the demonstration checkpoint.
FP16_LOGIT_TOLERANCE, FP16_SCORE_TOLERANCE = 2e-2, 1e-2
# That flips a few pixels on a mask's edge: on some CPUs 6 of a mask of 191 (IoU 0.969).
FP16_MINIMUM_MASK_IOU = 0.95
# Differs from the seed of the sample that an artifact is traced on.
_PARITY_SEED = 1000


class MaskDecoder(nn.Module):
    """Turns the features of an image and the prompts of P objects into low-resolution logits and scores, best first.

    Args of `forward` (h = w = 4g, the low-resolution size; 288 for SAM 3):
        image_embedding, high_res_features_0, high_res_features_1: as `ImageEncoder` or `ServedImageEncoder` returns
            them, one row for each image.
        point_coords: fp32 [B, P, N, 2], (x, y) as fractions of the image's width and height.
        point_labels: int32 [B, P, N]; 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding, -2 empty.
            Meta's predictor puts a box before the points and one padding point after them. Empty slots do not change
            the answer, whatever their coordinates.
        mask_input: fp32 [B, K, h, w], logits of an earlier answer; ignored where has_mask_input is false. K is P, or 1
            for a mask that all objects share, so that prompts without masks need not send P of them.
        has_mask_input: bool [B, 1].
        mask_tokens: int32 [B, M], the mask tokens whose masks are returned: [0] for a single mask,
            [1, 2, 3] for the candidates.
    Returns: (mask_logits fp32 [B, P, M, h, w], scores fp32 [B, P, M]); scores are the model's own estimates of IoU,
        which SAM 3 passes through a sigmoid and SAM 3.1 does not.
    """

    def __init__(self, model: Sam3TrackerModel) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder
        self.decoder = model.mask_decoder
        self.image_size = float(model.prompt_encoder.input_image_size)
        # A buffer, so that it stays in fp32 when the weights become fp16, like every encoding of coordinates.
        with torch.no_grad():
            positions = model.get_image_wide_positional_embeddings()
        self.register_buffer("image_positions", positions, persistent=False)
        self.image_positions: Tensor

    def forward(
        self,
        image_embedding: Tensor,
        high_res_features_0: Tensor,
        high_res_features_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        mask_tokens: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        dtype = self.decoder.conv_s1.weight.dtype
        logits, scores = self._all_tokens(
            self._pixels(image_embedding.to(dtype), mask_input.to(dtype), has_mask_input, point_labels),
            [high_res_features_0.to(dtype), high_res_features_1.to(dtype)],
            self._sparse(point_coords, point_labels).to(dtype),
            point_labels == EMPTY,
        )
        tokens = mask_tokens.long().unsqueeze(1).expand(-1, point_labels.shape[1], -1)
        tokens = self._replace_unstable(tokens, logits, scores)
        scores, order = torch.sort(scores.gather(2, tokens), dim=2, descending=True)
        tokens = tokens.gather(2, order)
        index = tokens[..., None, None].expand(-1, -1, -1, logits.shape[3], logits.shape[4])
        return logits.gather(2, index).float(), scores

    def _sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        """The points' embeddings [B, P, N, C]."""
        embedded = self.prompt_encoder._embed_points(coords * self.image_size, labels, pad=False)
        # The attention bias is not enough: a NaN times a weight of zero is still NaN.
        return embedded.masked_fill((labels == EMPTY).unsqueeze(-1), 0)

    def _pixels(self, embedding: Tensor, mask_input: Tensor, has_mask_input: Tensor, labels: Tensor) -> Tensor:
        """The image embedding's pixels with each object's mask, [B, P, g * g, C]; `labels` [B, P, N] tell P."""
        embedded = self.prompt_encoder.mask_embed(mask_input.flatten(0, 1).unsqueeze(1))
        embedded = _rows(embedded).unflatten(0, mask_input.shape[:2])
        absent = self.prompt_encoder.no_mask_embed.weight.reshape(1, 1, 1, -1)
        masks = torch.where(has_mask_input[:, :, None, None], embedded, absent)
        pixels = _rows(embedding).unsqueeze(1) + masks
        # Not `expand`, which would fix K at 1 in a traced graph: this takes the last mask for each object beyond K. And
        # not `arange`, which would fix the device.
        numbers = torch.ones_like(labels[0, :, 0]).cumsum(0) - 1
        return pixels.index_select(1, numbers.clamp(max=mask_input.shape[1] - 1))

    def _all_tokens(
        self, pixels: Tensor, high_res: list[Tensor], sparse: Tensor, empty: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, P, 4, h, w] and scores [B, P, 4] of all mask tokens. transformers' own forward also computes all
        of them, but its flag returns either the first or the others.

        Args:
            pixels: [B, P, g * g, C]; high_res: features of the B images.
            sparse: [B, P, N, C]; empty: bool [B, P, N] marks the empty slots.
        """
        decoder = self.decoder
        batch, objects = pixels.shape[:2]
        tokens = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
        bias = None
        if empty is not None:
            bias = F.pad(hide(empty, pixels.dtype), (len(tokens), 0))[:, :, None, None]
        tokens = torch.cat([tokens.expand(batch, objects, -1, -1), sparse], dim=2)
        positions = _rows(self.image_positions).unsqueeze(1).to(pixels.dtype)
        tokens, pixels = two_way(decoder.transformer, tokens, pixels, positions, bias)
        grid = self.image_positions.shape[2:]
        upscaled = decoder.upscale_conv1(pixels.flatten(0, 1).transpose(1, 2).unflatten(2, grid))
        upscaled = decoder.activation(decoder.upscale_layer_norm(_add_to_each(upscaled, high_res[1])))
        upscaled = decoder.activation(_add_to_each(decoder.upscale_conv2(upscaled), high_res[0]))
        tokens = tokens.flatten(0, 1)
        weights = torch.stack(
            [mlp(tokens[:, 2 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
        )
        logits = weights @ upscaled.flatten(2)
        # The score head stays in fp32 when the other weights become fp16.
        scores = decoder.iou_prediction_head(tokens[:, 1].to(decoder.iou_prediction_head.proj_in.weight.dtype))
        return logits.reshape(batch, objects, -1, *upscaled.shape[2:]), scores.reshape(batch, objects, -1)

    def _replace_unstable(self, tokens: Tensor, logits: Tensor, scores: Tensor) -> Tensor:
        """Replaces token 0 by the other token with the best score if its mask is unstable, as Meta's predictor does."""
        delta = self.decoder.dynamic_multimask_stability_delta
        inner = (logits[:, :, 0] > delta).flatten(2).sum(2).float()
        outer = (logits[:, :, 0] > -delta).flatten(2).sum(2).float()
        stability = torch.where(outer > 0, inner / outer, torch.ones_like(inner))
        unstable = stability < self.decoder.dynamic_multimask_stability_thresh
        best = scores[:, :, 1:].argmax(dim=2) + 1
        return torch.where((tokens == 0) & unstable[..., None], best[..., None], tokens)


def _rows(grid: Tensor) -> Tensor:
    """A grid [B, C, h, w] as rows of pixels, [B, h * w, C]."""
    return grid.flatten(2).transpose(1, 2)


def _add_to_each(objects: Tensor, image: Tensor) -> Tensor:
    """Adds features of B images, [B, C, h, w], to those of their objects, [B * P, C, h, w], without copies of them."""
    return (objects.reshape(image.shape[0], -1, *image.shape[1:]) + image.unsqueeze(1)).flatten(0, 1)


def spec(architecture: Architecture) -> ComponentSpec:
    """The spec of `MaskDecoder`, in the order of its arguments and results."""
    side = architecture.low_res_size
    high_res_0, high_res_1, embedding = image_encoder.features(architecture)
    return ComponentSpec(
        model_name=NAME,
        title="mask decoder",
        inputs=(
            embedding,
            high_res_0,
            high_res_1,
            TensorSpec("POINT_COORDS", "float32", (BATCH, OBJECTS, POINTS, 2)),
            TensorSpec("POINT_LABELS", "int32", (BATCH, OBJECTS, POINTS)),
            TensorSpec("MASK_INPUT", "float32", (BATCH, MASK_INPUTS, side, side)),
            TensorSpec("HAS_MASK_INPUT", "bool", (BATCH, 1)),
            TensorSpec("MASK_TOKENS", "int32", (BATCH, MASKS)),
        ),
        outputs=(
            TensorSpec("MASK_LOGITS", "float32", (BATCH, OBJECTS, MASKS, side, side)),
            TensorSpec("SCORES", "float32", (BATCH, OBJECTS, MASKS)),
        ),
        tolerances={"MASK_LOGITS": LOGIT_TOLERANCE, "SCORES": SCORE_TOLERANCE},
        # No int8: the decoder is small and spends little of its time in matrix products.
        variants={
            "fp16": Bounds(
                {"MASK_LOGITS": FP16_LOGIT_TOLERANCE, "SCORES": FP16_SCORE_TOLERANCE},
                FP16_MINIMUM_MASK_IOU,
                FP16_DRIFT,
            ),
            # It stays in fp32 (`half_precision`). These are the widest bounds of fp32 (`parity.widen`).
            "bf16": Bounds(
                {"MASK_LOGITS": FP32_DRIFT.logits, "SCORES": FP32_DRIFT.score}, FP32_DRIFT.mask_iou, BF16_DRIFT
            ),
        },
    )


def _features(references: References) -> Arrays:
    """The image encoder's reference outputs for all its parity cases, concatenated."""
    answers = [case.expected for case in references[image_encoder.NAME]]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in image_encoder.FEATURES}


def _inputs(architecture: Architecture, references: References) -> Sequence[tuple[str, Arrays]]:
    """Prompts of every kind, with features rounded to the dtype in which an artifact receives them."""
    features = _features(references)
    dtypes = {tensor.name: tensor.dtype for tensor in spec(architecture).inputs}
    inputs = []
    for number, shape in enumerate(click_prompts.PARITY_PROMPTS):
        own = {name: np.ascontiguousarray(values[: shape.batch], dtypes[name]) for name, values in features.items()}
        inputs.append((shape.name, {**own, **click_prompts.prompts(architecture, shape, _PARITY_SEED + number)}))
    return inputs


def _sample(architecture: Architecture, references: References) -> Arrays:
    shape = click_prompts.EXPORT_PROMPT
    features = {name: values[: shape.batch] for name, values in _features(references).items()}
    return {**features, **click_prompts.prompts(architecture, shape, seed=0)}


COMPONENT = Component(
    name=NAME,
    spec=spec,
    module=lambda checkpoint: MaskDecoder(checkpoint.model),
    inputs=_inputs,
    sample=_sample,
    amplifies_rounding=True,
)
