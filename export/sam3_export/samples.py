"""Seeded inputs of the two components: one to export with, several to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.spec import BACKGROUND, BOX_FIRST, BOX_SECOND, EMPTY, FOREGROUND, PADDING

Arrays = dict[str, np.ndarray]

SINGLE_TOKEN = (0,)
CANDIDATE_TOKENS = (1, 2, 3)


@dataclass(frozen=True)
class PromptShape:
    """The shape of a batch of prompts, for which coordinates are then drawn: a row of labels for each prompt."""

    name: str
    labels: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    mask_input: tuple[bool, ...]

    @property
    def batch(self) -> int:
        """How many prompts."""
        return len(self.labels)


# Traced and exported with two of everything: a batch of one would be baked into the graph.
EXPORT_BATCH = 2
EXPORT_PROMPT = PromptShape(
    "export sample",
    ((FOREGROUND, BACKGROUND, PADDING), (FOREGROUND, PADDING, EMPTY)),
    CANDIDATE_TOKENS,
    (True, False),
)

# The batch that the export did not see shows whether its own was baked into the graph; a larger one costs gigabytes at
# SAM 3's size.
PARITY_BATCHES = (1, 2)
PARITY_PROMPTS = (
    PromptShape("one point, single mask", ((FOREGROUND, PADDING),), SINGLE_TOKEN, (False,)),
    PromptShape("one point, candidates", ((FOREGROUND, PADDING),), CANDIDATE_TOKENS, (False,)),
    PromptShape("one point, empty slots", ((FOREGROUND, PADDING, *[EMPTY] * 6),), SINGLE_TOKEN, (False,)),
    PromptShape("box, single mask", ((BOX_FIRST, BOX_SECOND, PADDING),) * 2, SINGLE_TOKEN, (False, False)),
    PromptShape(
        "box and points, candidates",
        ((BOX_FIRST, BOX_SECOND, FOREGROUND, BACKGROUND, FOREGROUND, BACKGROUND, PADDING),) * 3,
        CANDIDATE_TOKENS,
        (False, True, False),
    ),
    PromptShape(
        "prompts of one, two and three points, candidates",
        (
            (FOREGROUND, PADDING, EMPTY, EMPTY),
            (BOX_FIRST, BOX_SECOND, PADDING, EMPTY),
            (FOREGROUND, BACKGROUND, FOREGROUND, PADDING),
        ),
        CANDIDATE_TOKENS,
        (False, True, False),
    ),
    PromptShape("mask input, single mask", ((FOREGROUND, BACKGROUND, PADDING),), SINGLE_TOKEN, (True,)),
)


# Two things in every picture, as fractions of its side, in the order x, y: a disc and a rectangle.
DISC_CENTRE, DISC_RADIUS = (0.32, 0.36), 0.17
RECTANGLE = (0.55, 0.5, 0.87, 0.86)
_DISC_COLOUR, _RECTANGLE_COLOUR = (215, 60, 50), (40, 90, 200)


def pixels(architecture: Architecture, batch: int, seed: int) -> Arrays:
    """`PIXELS`: smooth colour waves with grain, nearer to photos than plain noise, and two things to click on."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(0, 2 * np.pi, architecture.image_size)
    waves = rng.uniform(1, 4, (batch, 2, 3)), rng.uniform(0, 2 * np.pi, (batch, 2, 3))
    rows, columns = (
        np.sin(axis[:, None] * frequency[:, None, :] + phase[:, None, :])
        for frequency, phase in zip(np.moveaxis(waves[0], 1, 0), np.moveaxis(waves[1], 1, 0), strict=True)
    )
    image = 128 + 60 * rows[:, :, None, :] + 40 * columns[:, None, :, :] + rng.normal(0, 8, rows.shape)[:, :, None, :]
    y, x = np.meshgrid(*[np.linspace(0, 1, architecture.image_size)] * 2, indexing="ij")
    disc = np.hypot(x - DISC_CENTRE[0], y - DISC_CENTRE[1]) < DISC_RADIUS
    left, top, right, bottom = RECTANGLE
    image[:, disc] = _DISC_COLOUR
    image[:, (left < x) & (x < right) & (top < y) & (y < bottom)] = _RECTANGLE_COLOUR
    return {"PIXELS": image.clip(0, 255).astype(np.uint8)}


def prompts(architecture: Architecture, shape: PromptShape, seed: int) -> Arrays:
    """The decoder's inputs of a batch of prompts, without the features."""
    rng = np.random.default_rng(seed)
    labels = np.array(shape.labels, np.int32)
    coords = rng.uniform(0, 1, (*labels.shape, 2)).astype(np.float32)
    boxes = labels[:, 0] == BOX_FIRST
    coords[boxes, :2] = np.sort(coords[boxes, :2], axis=1)
    coords[labels < 0] = 0  # the padding point and empty slots, as the prompt model lays them out
    side = architecture.low_res_size
    masks = rng.normal(0, 6, (shape.batch, 1, side, side)).astype(np.float32)
    present = np.array(shape.mask_input)[:, None]
    return {
        "POINT_COORDS": coords,
        "POINT_LABELS": labels,
        "MASK_INPUT": np.where(present[:, :, None, None], masks, 0).astype(np.float32),
        "HAS_MASK_INPUT": present,
        "MASK_TOKENS": np.tile(np.array(shape.tokens, np.int32), (shape.batch, 1)),
    }
