"""Random surfaces: flat, graded, striped, smooth and natural textures as float images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sam3_export.errors import ExportError

Colours = NDArray[np.float32]  # [H, W, 3], RGB, 0 to 255; may exceed that range until `camera.develop`
Rng = np.random.Generator

# scikit-image's bundled pictures of surfaces and of fields of small things. Its photos of objects (astronaut, chelsea,
# coffee, rocket, ...) are left out, because the network is evaluated on them.
_NATURAL = ("brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "moon.png")
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def surface(rng: Rng, height: int, width: int, kinds: tuple[str, ...], muted: bool) -> Colours:
    """A texture of a random kind out of `kinds`, [height, width, 3]; `muted` uses the colours of photos."""
    first = colour(rng, muted)
    # Often the second colour is a shade of the first, as on one material.
    second = colour(rng, muted) if rng.random() < 0.4 else first * rng.uniform(0.45, 1.5) + rng.normal(0, 6, 3)
    return KINDS[kinds[rng.integers(len(kinds))]](rng, height, width, first, second).astype(np.float32)


def colour(rng: Rng, muted: bool) -> NDArray[np.floating]:
    """An RGB colour [3]; the muted ones are mostly grey, brown, green and blue."""
    if not muted:
        return rng.uniform(0, 255, 3)
    lightness = 255 * rng.beta(1.3, 1.5)
    tint = rng.normal(0, 1, 3) * rng.choice([4, 18, 45], p=[0.35, 0.45, 0.2])
    return lightness + tint + np.array([1, 0.2, -1.2]) * rng.normal(0, 12)


def noise(rng: Rng, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Smooth random values of about -1 to 1, [height, width], with `cells` bumps along each side."""
    grid = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _mix(weight: NDArray[np.floating], first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    return (first + weight[..., None] * (second - first)).astype(np.float32)


def _ramp(rng: Rng, height: int, width: int) -> NDArray[np.floating]:
    """Position along a random direction, in units of the longer side."""
    angle = rng.uniform(0, 2 * np.pi)
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None]
    return (x * np.cos(angle) + y * np.sin(angle)) / max(height, width)


def _flat(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    return np.broadcast_to(first.astype(np.float32), (height, width, 3)).copy()


def _graded(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    return _mix((_ramp(rng, height, width) * 0.7 + 0.5).clip(0, 1), first, second)


def _striped(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    pixels = rng.uniform(5, 30)  # one dark and one light stripe
    waves = np.sin(_ramp(rng, height, width) * (max(height, width) / pixels * 2 * np.pi) + rng.uniform(0, 6))
    return _mix((waves * rng.uniform(0.6, 4)).clip(-1, 1) * 0.5 + 0.5, first, second)


def _smooth(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    return _mix(noise(rng, height, width, int(rng.integers(2, 7))) * 0.6 + 0.5, first, second)


def _rough(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    # Several octaves: stone, fur, foliage.
    total = np.zeros((height, width), np.float32)
    cells = int(rng.integers(2, 6))
    fall = rng.uniform(0.5, 0.9)
    for octave in range(5):
        total += fall**octave * noise(rng, height, width, min(cells * 2**octave, max(height, width)))
    return _mix(total * 0.4 + 0.5, first, second)


def _checked(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    pixels = rng.uniform(4, 20)
    scale = max(height, width) / pixels
    squares = np.floor(_ramp(rng, height, width) * scale) + np.floor(_ramp(rng, height, width) * scale)
    return _mix(squares % 2, first, second)


def _natural(rng: Rng, height: int, width: int, first: NDArray[np.floating], second: NDArray[np.floating]) -> Colours:
    picture = _picture(_NATURAL[rng.integers(len(_NATURAL))])
    side = int(rng.uniform(0.15, 0.7) * min(picture.shape[:2]))
    top, left = rng.integers(0, np.array(picture.shape[:2]) - side)
    crop = picture[top : top + side, left : left + side].astype(np.float32)
    crop = cv2.resize(crop[:, :: rng.choice([1, -1])], (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.6:  # the texture in other colours
        grey = crop.mean(axis=2)
        return _mix((grey - grey.mean()) / (4 * grey.std() + 8) * rng.uniform(0.4, 1.2) + 0.5, first, second)
    return crop * rng.uniform(0.6, 1.3)


def bundled_file(package: str, name: str) -> bytes:
    """Reads a file of an installed package without importing the package.

    Raises:
        ExportError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ExportError(f"photo-like scenes need pictures of {package}; run: pip install {_DISTRIBUTIONS[package]}")
    return (Path(spec.origin).parent / name).read_bytes()


@cache
def _picture(name: str) -> NDArray[np.uint8]:
    encoded = np.frombuffer(bundled_file("skimage", f"data/{name}"), np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1]
    scale = 512 / min(picture.shape[:2])
    return cv2.resize(np.ascontiguousarray(picture), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


KINDS: dict[str, Callable[..., Colours]] = {
    "flat": _flat,
    "graded": _graded,
    "striped": _striped,
    "smooth": _smooth,
    "rough": _rough,
    "checked": _checked,
    "natural": _natural,
}
PLAIN_KINDS = ("flat", "smooth", "striped", "graded")
PHOTO_KINDS = (
    "flat",
    "graded",
    "graded",
    "smooth",
    "smooth",
    "rough",
    "rough",
    "natural",
    "natural",
    "striped",
    "checked",
)
