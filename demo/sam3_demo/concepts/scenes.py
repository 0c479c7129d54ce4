"""Seeded scenes of shapes whose names, colours, textures and sizes are known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_demo import textures
from sam3_demo.camera import develop
from sam3_demo.concepts import drawing

Rng = np.random.Generator
# What each object is, one value of each axis. The order of the axes is that of the columns of `ShapeScene.attributes`.
AXES: dict[str, tuple[str, ...]] = {
    "shape": ("circle", "square", "triangle", "star", "ring", "cross"),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "white", "black"),
    "texture": ("plain", "striped", "dotted"),
    "size": ("small", "medium", "large"),
}
MOST_OBJECTS = 8
# Radius as a share of the picture's side, of a circle; other shapes have about its area.
_RADII = {"small": (0.08, 0.105), "medium": (0.12, 0.145), "large": (0.17, 0.215)}
_TEXTURE_SHARES = (0.5, 0.25, 0.25)
_SIZE_SHARES = (0.4, 0.2, 0.4)
_AGAIN = 0.35  # share of objects with shape and colour of an earlier one, so that phrases have several instances
_TRIES = 30  # places tried for an object
_APART = 0.95  # smallest distance of two objects, as a share of the sum of their radii
_CONTRAST = 80.0  # smallest distance of an object's colour from that of the background, in grey levels
_BACKGROUNDS = ("flat", "graded", "smooth", "rough")
# The stream of random numbers, so that these scenes have nothing in common with those of `sam3_demo.scenes`.
_STREAM = 7


@dataclass(frozen=True)
class ShapeScene:
    """A picture and what is in it.

    image: uint8 [S, S, 3], RGB.
    objects: uint8 [S, S], the number of the object that a pixel shows, from 1 (0: background).
    attributes: int64 [n, 4], for object i + 1 its value on each of `AXES`.
    boxes: fp32 [n, 4], x0 y0 x1 y1 of an object's visible pixels, as fractions of the picture.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    attributes: NDArray[np.int64]
    boxes: NDArray[np.float32]


def make_shape_scene(seed: int, size: int) -> ShapeScene:
    """The scene of a seed, `size` pixels along each side; the same on every call."""
    rng = np.random.default_rng([seed, _STREAM])
    background = _background(rng, size)
    image, objects = background.copy(), np.zeros((size, size), np.uint8)
    shapes, colours = (rng.permutation(len(AXES[axis]))[: rng.integers(2, 5)] for axis in ("shape", "colour"))
    placed: list[tuple[float, float, float]] = []
    rows: list[tuple[int, ...]] = []
    for _ in range(int(rng.integers(3, MOST_OBJECTS + 1))):
        shape, colour = int(rng.choice(shapes)), int(rng.choice(colours))
        if rows and rng.random() < _AGAIN:
            shape, colour = rows[rng.integers(len(rows))][:2]
        texture = int(rng.choice(3, p=_TEXTURE_SHARES))
        extent = int(rng.choice(3, p=_SIZE_SHARES))
        radius = size * float(rng.uniform(*_RADII[AXES["size"][extent]]))
        centre = _place(rng, size, radius, placed)
        if centre is None:
            continue
        mask = drawing.SHAPES[AXES["shape"][shape]](rng, size, centre, radius)
        around = background[mask > 127].mean(axis=0)
        paint = drawing.colour(rng, AXES["colour"][colour], around, _CONTRAST)
        surface = drawing.TEXTURES[AXES["texture"][texture]](rng, size, paint, drawing.second_colour(rng, paint))
        alpha = mask.astype(np.float32)[..., None] / 255
        image += alpha * (surface - image)
        placed.append((*centre, radius))
        rows.append((shape, colour, texture, extent))
        objects[mask > 127] = len(rows)
    boxes = np.zeros((len(rows), 4), np.float32)
    for number in range(len(rows)):
        x, y, width, height = cv2.boundingRect((objects == number + 1).astype(np.uint8))
        boxes[number] = np.array([x, y, x + width, y + height]) / size
    return ShapeScene(develop(rng, image, photo=False), objects, np.array(rows, np.int64).reshape(-1, len(AXES)), boxes)


def _background(rng: Rng, size: int) -> textures.Colours:
    """A surface of a muted colour."""
    first = drawing.muted(rng)
    second = first * rng.uniform(0.75, 1.25) + rng.normal(0, 5, 3)
    kind = textures.KINDS[_BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]]
    return kind(rng, size, size, first, second).astype(np.float32)


def _place(rng: Rng, size: int, radius: float, placed: list[tuple[float, float, float]]) -> tuple[float, float] | None:
    """A centre at which an object hardly covers the others; None if there is no room."""
    margin = 0.95 * radius
    for _ in range(_TRIES):
        x, y = rng.uniform(margin, size - margin, 2)
        if all(np.hypot(x - left, y - top) >= _APART * (radius + other) for left, top, other in placed):
            return float(x), float(y)
    return None
