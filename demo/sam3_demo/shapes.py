"""Random outlines: coverage masks of ellipses, polygons, blobs, rings, rods and combinations of them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]  # [S, S], coverage of each pixel, 0 to 255
Rng = np.random.Generator
_SHIFT = 4  # sub-pixel bits of cv2's drawing functions


def outline(rng: Rng, size: int, kinds: tuple[str, ...], radius: float) -> Mask:
    """A shape of a random kind out of `kinds`, about `radius` pixels in size, with its centre in the image."""
    centre = rng.uniform(0.04, 0.96, 2) * size
    return KINDS[kinds[rng.integers(len(kinds))]](rng, size, centre, radius)


def fill(size: int, points: NDArray[np.floating]) -> Mask:
    """The inside of the closed polygon `points` [N, 2] (x, y in pixels), with smooth edges."""
    mask = np.zeros((size, size), np.uint8)
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
    return mask


def _rotated(rng: Rng, points: NDArray[np.floating], centre: NDArray[np.floating]) -> NDArray[np.floating]:
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn + centre


def _circle(count: int) -> NDArray[np.floating]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _ellipse(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    axes = radius * np.array([1.0, rng.uniform(0.35, 1.0)])
    return fill(size, _rotated(rng, _circle(48) * axes, centre))


def _polygon(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    count = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count)) * 0.5 + np.linspace(0, 2 * np.pi, count, endpoint=False) * 0.5
    lengths = radius * rng.uniform(0.55, 1.1, (count, 1))
    return fill(size, np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths + centre)


def _blob(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    lengths = np.ones_like(angles)
    for wave in range(1, 6):
        lengths += rng.uniform(0, 0.35) / wave**0.7 * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius * lengths.clip(0.25))[:, None]
    return fill(size, _rotated(rng, points * [1.0, rng.uniform(0.5, 1.0)], centre))


def _rectangle(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    # A superellipse: from nearly round to nearly square corners.
    circle = _circle(64)
    power = rng.uniform(0.1, 0.6)
    points = np.sign(circle) * np.abs(circle) ** power * radius * np.array([0.9, rng.uniform(0.3, 0.9)])
    return fill(size, _rotated(rng, points, centre))


def _rod(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    # A bent stroke with round ends: handles, limbs, branches.
    steps = np.linspace(-1, 1, 16)
    points = np.stack([steps * 1.5, rng.uniform(-0.7, 0.7) * steps**2 + rng.uniform(-0.4, 0.4) * steps**3], axis=1)
    points = _rotated(rng, points * radius, centre)
    mask = np.zeros((size, size), np.uint8)
    width = max(3, round(radius * rng.uniform(0.12, 0.5)))
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, width, cv2.LINE_AA, _SHIFT)
    return mask


def _ring(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    points = _rotated(rng, _circle(48) * [1.0, rng.uniform(0.45, 1.0)] * radius, np.zeros(2))
    return fill(size, points + centre) - fill(size, points * rng.uniform(0.4, 0.75) + centre)


def _joined(rng: Rng, size: int, centre: NDArray[np.floating], radius: float) -> Mask:
    # Two to four simple shapes grown together: animals, cups with handles, furniture.
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(2, 5))):
        kind = (_ellipse, _polygon, _rectangle, _rod)[rng.integers(4)]
        offset = rng.normal(0, 0.45, 2) * radius
        mask = np.maximum(mask, kind(rng, size, centre + offset, radius * rng.uniform(0.35, 0.75)))
    return mask


KINDS: dict[str, Callable[[Rng, int, NDArray[np.floating], float], Mask]] = {
    "ellipse": _ellipse,
    "polygon": _polygon,
    "blob": _blob,
    "rectangle": _rectangle,
    "rod": _rod,
    "ring": _ring,
    "joined": _joined,
}
PLAIN_KINDS = ("ellipse", "polygon", "blob")
PHOTO_KINDS = (*KINDS, "joined", "blob", "rectangle")
