"""Seeded prompts of points, boxes and masks for the mask decoder: one to trace it on, several to check it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.spec import Arrays

# The values of POINT_LABELS: a click, a corner of a box, or the padding point with which Meta's predictor ends every
# prompt and which takes part in attention. Empty slots may follow it, so that prompts of different lengths fit into one
# batch. Nothing attends to them, so they do not change the answer.
FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING, EMPTY = 1, 0, 2, 3, -1, -2

SINGLE_TOKEN = (0,)
CANDIDATE_TOKENS = (1, 2, 3)


@dataclass(frozen=True)
class PromptShape:
    """The shape of a batch of prompts, with a row of labels for each object; `prompts` draws the coordinates.

    Attributes:
        labels: of B images, each with P objects, each with N points.
        tokens: the mask tokens that are requested.
        mask_input: for each image, whether its objects have a mask input.
        masks: number of mask inputs for each image: 1, which its objects share, or one for each object.
    """

    name: str
    labels: tuple[tuple[tuple[int, ...], ...], ...]
    tokens: tuple[int, ...]
    mask_input: tuple[bool, ...]
    masks: int = 1

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(self.labels)


_ONE_POINT = (FOREGROUND, PADDING)
_BOX = (BOX_FIRST, BOX_SECOND, PADDING)
_BOX_AND_POINTS = (BOX_FIRST, BOX_SECOND, FOREGROUND, BACKGROUND, FOREGROUND, BACKGROUND, PADDING)

# Tracing bakes in an axis of length 1, and may take two axes for one if they depend on each other: so two masks for
# three objects, which no caller sends.
EXPORT_PROMPT = PromptShape(
    "export sample",
    (
        ((FOREGROUND, BACKGROUND, PADDING), _BOX, (FOREGROUND, PADDING, EMPTY)),
        ((FOREGROUND, PADDING, EMPTY), _BOX, (FOREGROUND, BACKGROUND, PADDING)),
    ),
    CANDIDATE_TOKENS,
    (True, False),
    masks=2,
)

PARITY_PROMPTS = (
    PromptShape("one point, single mask", ((_ONE_POINT,),), SINGLE_TOKEN, (False,)),
    PromptShape("one point, candidates", ((_ONE_POINT,),), CANDIDATE_TOKENS, (False,)),
    PromptShape("one point, empty slots", (((*_ONE_POINT, *[EMPTY] * 6),),), SINGLE_TOKEN, (False,)),
    PromptShape("box, single mask", ((_BOX,),) * 2, SINGLE_TOKEN, (False, False)),
    PromptShape(
        "box and points, candidates",
        ((_BOX_AND_POINTS,),) * 3,
        CANDIDATE_TOKENS,
        (False, True, False),
    ),
    PromptShape(
        "prompts of one, two and three points, candidates",
        (
            ((FOREGROUND, PADDING, EMPTY, EMPTY),),
            ((BOX_FIRST, BOX_SECOND, PADDING, EMPTY),),
            ((FOREGROUND, BACKGROUND, FOREGROUND, PADDING),),
        ),
        CANDIDATE_TOKENS,
        (False, True, False),
    ),
    PromptShape("mask input, single mask", (((FOREGROUND, BACKGROUND, PADDING),),), SINGLE_TOKEN, (True,)),
    PromptShape("mask input alone", (((EMPTY,),),), SINGLE_TOKEN, (True,)),
    PromptShape("four boxes", ((_BOX,) * 4,), SINGLE_TOKEN, (False,)),
    PromptShape(
        "three objects, mask inputs, candidates",
        ((_BOX, (FOREGROUND, PADDING, EMPTY), (FOREGROUND, BACKGROUND, PADDING)),) * 2,
        CANDIDATE_TOKENS,
        (True, True),
        masks=3,
    ),
)


def prompts(architecture: Architecture, shape: PromptShape, seed: int) -> Arrays:
    """The decoder's inputs for a batch of prompts, except the features."""
    rng = np.random.default_rng(seed)
    labels = np.array(shape.labels, np.int32)
    coords = rng.uniform(0, 1, (*labels.shape, 2)).astype(np.float32)
    boxes = labels[:, :, 0] == BOX_FIRST
    coords[boxes, :2] = np.sort(coords[boxes, :2], axis=1)
    coords[labels < 0] = 0  # the padding point and empty slots, as the prompt model lays them out
    side = architecture.low_res_size
    masks = rng.normal(0, 6, (shape.batch, shape.masks, side, side)).astype(np.float32)
    present = np.array(shape.mask_input)[:, None]
    return {
        "POINT_COORDS": coords,
        "POINT_LABELS": labels,
        "MASK_INPUT": np.where(present[:, :, None, None], masks, 0).astype(np.float32),
        "HAS_MASK_INPUT": present,
        "MASK_TOKENS": np.tile(np.array(shape.tokens, np.int32), (shape.batch, 1)),
    }
