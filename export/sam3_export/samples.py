"""Seeded inputs of the two components: one to export with, several to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3_export.architecture import Architecture

Arrays = dict[str, np.ndarray]

FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING = 1, 0, 2, 3, -1
SINGLE_TOKEN = (0,)
CANDIDATE_TOKENS = (1, 2, 3)


@dataclass(frozen=True)
class PromptShape:
    """The shape of a batch of prompts, for which coordinates are then drawn."""

    name: str
    batch: int
    labels: tuple[int, ...]
    tokens: tuple[int, ...]
    mask_input: tuple[bool, ...]


# Traced and exported with two of everything: a batch of one would be baked into the graph.
EXPORT_BATCH = 2
EXPORT_PROMPT = PromptShape("export sample", 2, (FOREGROUND, BACKGROUND, PADDING), CANDIDATE_TOKENS, (True, False))

PARITY_BATCHES = (1, 3)
PARITY_PROMPTS = (
    PromptShape("one point, single mask", 1, (FOREGROUND, PADDING), SINGLE_TOKEN, (False,)),
    PromptShape("one point, candidates", 1, (FOREGROUND, PADDING), CANDIDATE_TOKENS, (False,)),
    PromptShape("box, single mask", 2, (BOX_FIRST, BOX_SECOND, PADDING), SINGLE_TOKEN, (False, False)),
    PromptShape(
        "box and points, candidates",
        3,
        (BOX_FIRST, BOX_SECOND, FOREGROUND, BACKGROUND, FOREGROUND, BACKGROUND, PADDING),
        CANDIDATE_TOKENS,
        (False, True, False),
    ),
    PromptShape("mask input, single mask", 1, (FOREGROUND, BACKGROUND, PADDING), SINGLE_TOKEN, (True,)),
)


def pixels(architecture: Architecture, batch: int, seed: int) -> Arrays:
    """`PIXELS`: smooth colour waves with grain, nearer to photos than plain noise."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(0, 2 * np.pi, architecture.image_size)
    waves = rng.uniform(1, 4, (batch, 2, 3)), rng.uniform(0, 2 * np.pi, (batch, 2, 3))
    rows, columns = (
        np.sin(axis[:, None] * frequency[:, None, :] + phase[:, None, :])
        for frequency, phase in zip(np.moveaxis(waves[0], 1, 0), np.moveaxis(waves[1], 1, 0), strict=True)
    )
    image = 128 + 60 * rows[:, :, None, :] + 40 * columns[:, None, :, :] + rng.normal(0, 8, rows.shape)[:, :, None, :]
    return {"PIXELS": image.clip(0, 255).astype(np.uint8)}


def prompts(architecture: Architecture, shape: PromptShape, seed: int) -> Arrays:
    """The decoder's inputs of a batch of prompts, without the features."""
    rng = np.random.default_rng(seed)
    count = len(shape.labels)
    coords = rng.uniform(0, 1, (shape.batch, count, 2)).astype(np.float32)
    if BOX_FIRST in shape.labels:
        coords[:, :2] = np.sort(coords[:, :2], axis=1)
    coords[:, -1] = 0  # the padding point, as the prompt model lays it out
    side = architecture.low_res_size
    masks = rng.normal(0, 6, (shape.batch, 1, side, side)).astype(np.float32)
    present = np.array(shape.mask_input)[:, None]
    return {
        "POINT_COORDS": coords,
        "POINT_LABELS": np.tile(np.array(shape.labels, np.int32), (shape.batch, 1)),
        "MASK_INPUT": np.where(present[:, :, None, None], masks, 0).astype(np.float32),
        "HAS_MASK_INPUT": present,
        "MASK_TOKENS": np.tile(np.array(shape.tokens, np.int32), (shape.batch, 1)),
    }
