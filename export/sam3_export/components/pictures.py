"""Seeded pictures for the parity gate and the golden clicks."""

from __future__ import annotations

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.spec import Arrays

# Every picture shows a disc and a rectangle. Positions are (x, y), as fractions of its side.
DISC_CENTRE, DISC_RADIUS = (0.32, 0.36), 0.17
RECTANGLE = (0.55, 0.5, 0.87, 0.86)
_DISC_COLOUR, _RECTANGLE_COLOUR = (215, 60, 50), (40, 90, 200)


def pixels(architecture: Architecture, batch: int, seed: int) -> Arrays:
    """`PIXELS`: smooth colour waves with grain, which resemble photos more than noise does, and two things to click."""
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
