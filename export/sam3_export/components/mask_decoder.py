"""The mask decoder: turns the features of an image and a prompt into masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3_export.architecture import Architecture
from sam3_export.components import click_prompts, image_encoder
from sam3_export.components.click_prompts import EMPTY
from sam3_export.components.component import Component, References
from sam3_export.components.two_way import two_way
from sam3_export.spec import BATCH, FP16_DRIFT, MASKS, POINTS, Arrays, Bounds, ComponentSpec, TensorSpec

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

NAME = "sam3_mask_decoder"
LOGIT_TOLERANCE = SCORE_TOLERANCE = 2e-4
# fp16 rounds to 11 bits in every layer. Measured: 2e-3 on the demonstration checkpoint.
FP16_LOGIT_TOLERANCE, FP16_SCORE_TOLERANCE = 2e-2, 1e-2
FP16_MINIMUM_MASK_IOU = 0.98
# Differs from the seed of the sample that an artifact is traced on.
_PARITY_SEED = 1000
# Added to the attention scores of an empty slot, so that its softmax weight is exactly 0. It is well within the range
# of fp16 and, unlike -inf, cannot produce NaN.
_HIDDEN = -1e4


class MaskDecoder(nn.Module):
    """Turns the features of an image and a prompt into low-resolution logits and scores, best first.

    Args of `forward` (h = w = 4g, the low-resolution size; 288 for SAM 3):
        image_embedding, high_res_features_0, high_res_features_1: as `ImageEncoder` or `ServedImageEncoder` returns
            them.
        point_coords: fp32 [B, N, 2], (x, y) as fractions of the image's width and height.
        point_labels: int32 [B, N]; 1 foreground, 0 background, 2 and 3 the corners of a box, -1 padding, -2 empty.
            Meta's predictor puts a box before the points and one padding point after them. Empty slots do not change
            the answer, whatever their coordinates.
        mask_input: fp32 [B, 1, h, w], logits of an earlier answer; ignored where has_mask_input is false.
        has_mask_input: bool [B, 1].
        mask_tokens: int32 [B, M], the mask tokens whose masks are returned: [0] for a single mask,
            [1, 2, 3] for the candidates.
    Returns: (mask_logits fp32 [B, M, h, w], scores fp32 [B, M]); scores are the model's own estimates of IoU.
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
            image_embedding.to(dtype),
            [high_res_features_0.to(dtype), high_res_features_1.to(dtype)],
            self._sparse(point_coords, point_labels).to(dtype),
            self._dense(mask_input.to(dtype), has_mask_input),
            point_labels == EMPTY,
        )
        tokens = self._replace_unstable(mask_tokens.long(), logits, scores)
        scores, order = torch.sort(scores.gather(1, tokens), dim=1, descending=True)
        tokens = tokens.gather(1, order)
        index = tokens[:, :, None, None].expand(-1, -1, logits.shape[2], logits.shape[3])
        return logits.gather(1, index).float(), scores

    def _sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        coords, labels = coords.unsqueeze(1) * self.image_size, labels.unsqueeze(1)
        embedded = self.prompt_encoder._embed_points(coords, labels, pad=False)
        # The attention bias is not enough: a NaN times a weight of zero is still NaN.
        return embedded.masked_fill((labels == EMPTY).unsqueeze(-1), 0)

    def _dense(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        embedded = self.prompt_encoder.mask_embed(mask_input)
        absent = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return torch.where(has_mask_input[:, :, None, None], embedded, absent)

    def _all_tokens(
        self,
        embedding: Tensor,
        high_res: list[Tensor],
        sparse: Tensor,
        dense: Tensor,
        empty: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, 4, h, w] and scores [B, 4] of all mask tokens. transformers' own forward also computes all of
        them, but its flag returns either the first or the others. `empty`, bool [B, N], marks the empty slots."""
        decoder = self.decoder
        batch, channels, height, width = embedding.shape
        tokens = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
        bias = None
        if empty is not None:
            hidden = torch.zeros_like(empty, dtype=embedding.dtype).masked_fill(empty, _HIDDEN)
            bias = F.pad(hidden, (len(tokens), 0))[:, None, None]
        tokens = torch.cat([tokens.expand(batch, 1, -1, -1), sparse], dim=2)
        positions = self.image_positions.to(embedding.dtype).expand(batch, -1, -1, -1)
        tokens, keys = two_way(decoder.transformer, tokens, embedding + dense, positions, bias)
        keys = keys.transpose(2, 3).reshape(batch, channels, height, width)
        upscaled = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(keys) + high_res[1]))
        upscaled = decoder.activation(decoder.upscale_conv2(upscaled) + high_res[0])
        weights = torch.stack(
            [mlp(tokens[:, 0, 2 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ upscaled.flatten(2)).reshape(batch, -1, upscaled.shape[2], upscaled.shape[3])
        return logits, decoder.iou_prediction_head(tokens[:, 0, 1].float())

    def _replace_unstable(self, tokens: Tensor, logits: Tensor, scores: Tensor) -> Tensor:
        """Replaces token 0 by the other token with the best score if its mask is unstable, as Meta's predictor does."""
        delta = self.decoder.dynamic_multimask_stability_delta
        inner = (logits[:, 0] > delta).flatten(1).sum(1).float()
        outer = (logits[:, 0] > -delta).flatten(1).sum(1).float()
        stability = torch.where(outer > 0, inner / outer, torch.ones_like(inner))
        unstable = stability < self.decoder.dynamic_multimask_stability_thresh
        best = scores[:, 1:].argmax(dim=1) + 1
        return torch.where((tokens == 0) & unstable[:, None], best[:, None], tokens)


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
            TensorSpec("POINT_COORDS", "float32", (BATCH, POINTS, 2)),
            TensorSpec("POINT_LABELS", "int32", (BATCH, POINTS)),
            TensorSpec("MASK_INPUT", "float32", (BATCH, 1, side, side)),
            TensorSpec("HAS_MASK_INPUT", "bool", (BATCH, 1)),
            TensorSpec("MASK_TOKENS", "int32", (BATCH, MASKS)),
        ),
        outputs=(
            TensorSpec("MASK_LOGITS", "float32", (BATCH, MASKS, side, side)),
            TensorSpec("SCORES", "float32", (BATCH, MASKS)),
        ),
        tolerances={"MASK_LOGITS": LOGIT_TOLERANCE, "SCORES": SCORE_TOLERANCE},
        # No int8: the decoder is small and spends little of its time in matrix products.
        variants={
            "fp16": Bounds(
                {"MASK_LOGITS": FP16_LOGIT_TOLERANCE, "SCORES": FP16_SCORE_TOLERANCE},
                FP16_MINIMUM_MASK_IOU,
                FP16_DRIFT,
            )
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


COMPONENT = Component(name=NAME, spec=spec, module=MaskDecoder, inputs=_inputs, sample=_sample)
