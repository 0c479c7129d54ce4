"""Draws the named shapes, colours and textures of `scenes`."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sam3_demo.shapes import Mask, fill
from sam3_demo.textures import Colours

Rng = np.random.Generator
Point = tuple[float, float]
Colour = NDArray[np.float32]  # [3], RGB, 0 to 255

# Hue in degrees, saturation and value, each from and to.
_COLOURS = {
    "red": ((-8, 6), (0.8, 1.0), (0.65, 1.0)),
    "orange": ((23, 34), (0.85, 1.0), (0.85, 1.0)),
    "yellow": ((51, 60), (0.75, 1.0), (0.85, 1.0)),
    "green": ((95, 145), (0.65, 1.0), (0.4, 0.85)),
    "blue": ((205, 235), (0.75, 1.0), (0.6, 1.0)),
    "purple": ((272, 292), (0.55, 0.95), (0.45, 0.85)),
    "white": ((0, 360), (0.0, 0.04), (0.93, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.12)),
}
_MUTED = ((0, 360), (0.0, 0.35), (0.25, 0.8))  # of backgrounds
_DRAWS = 50  # of a colour, until one has enough contrast


def _circle(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    return fill(size, _around(48) * radius + centre)


def _square(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    return fill(size, _turned(rng, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.89, 25) * radius + centre)


def _triangle(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    return fill(size, _turned(rng, _around(3) * 1.4, 180) * radius + centre)


def _star(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    lengths = np.where(np.arange(10) % 2, rng.uniform(0.5, 0.58), 1.35)
    return fill(size, _turned(rng, _around(10) * lengths[:, None], 180) * radius + centre)


def _ring(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    hole = fill(size, _around(48) * radius * rng.uniform(0.5, 0.62) + centre)
    return fill(size, _around(48) * radius * 1.1 + centre) - hole


def _cross(rng: Rng, size: int, centre: Point, radius: float) -> Mask:
    thick = rng.uniform(0.3, 0.42)
    bar = np.array([[-1.2, -thick], [1.2, -thick], [1.2, thick], [-1.2, thick]])
    angle = rng.uniform(-180, 180)
    bars = (_turned(rng, bar, 0, angle + quarter) * radius + centre for quarter in (0, 90))
    return np.maximum(*(fill(size, points) for points in bars))


def _around(count: int) -> NDArray[np.floating]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _turned(rng: Rng, points: NDArray[np.floating], most: float, angle: float = 0.0) -> NDArray[np.floating]:
    """The points, turned by an angle and at most `most` more, in degrees."""
    turn = np.radians(angle + rng.uniform(-most, most))
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def colour(rng: Rng, name: str, background: Colour, contrast: float) -> Colour:
    """A colour of this name, at a distance of `contrast` or more from that of the background, if one is found."""
    best, furthest = np.zeros(3, np.float32), -1.0
    for _ in range(_DRAWS):
        drawn = _draw(rng, _COLOURS[name])
        distance = float(np.linalg.norm(drawn - background))
        if distance > furthest:
            best, furthest = drawn, distance
        if distance >= contrast:
            break
    return best


def muted(rng: Rng) -> Colour:
    """A colour for a background: greyish, neither white nor black."""
    return _draw(rng, _MUTED)


def second_colour(rng: Rng, first: Colour) -> Colour:
    """A lighter or darker shade of a colour, for the pattern on it."""
    other = 0.0 if first.mean() > 140 else 255.0
    return (first + rng.uniform(0.5, 0.7) * (other - first)).astype(np.float32)


def _draw(rng: Rng, ranges: tuple[tuple[float, float], ...]) -> Colour:
    hue, saturation, value = (rng.uniform(*ends) for ends in ranges)
    return 255 * np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)


def _plain(rng: Rng, size: int, first: Colour, second: Colour) -> Colours:
    return np.broadcast_to(first, (size, size, 3))


def _striped(rng: Rng, size: int, first: Colour, second: Colour) -> Colours:
    period, share = size / 252 * rng.uniform(9, 15), rng.uniform(0.35, 0.5)
    across, _ = _axes(rng, size)
    inside = 0.5 - 0.5 * np.cos(across * (2 * np.pi / period)) < share
    return np.where(inside[..., None], second, first)


def _dotted(rng: Rng, size: int, first: Colour, second: Colour) -> Colours:
    period = size / 252 * rng.uniform(11, 15)
    across, down = _axes(rng, size)
    offset = np.hypot(across % period - period / 2, down % period - period / 2)
    return np.where((offset < period * rng.uniform(0.26, 0.34))[..., None], second, first)


def _axes(rng: Rng, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The places of all pixels along two perpendicular axes, in pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, shift = rng.uniform(0, np.pi), rng.uniform(0, 99, 2)
    return x * np.cos(angle) + y * np.sin(angle) + shift[0], y * np.cos(angle) - x * np.sin(angle) + shift[1]


SHAPES: dict[str, Callable[[Rng, int, Point, float], Mask]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}
TEXTURES: dict[str, Callable[[Rng, int, Colour, Colour], Colours]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
}
