"""Converts pictures of every mode to 8-bit RGB or grey. Independent of Triton."""

from __future__ import annotations

import numpy as np
from PIL import Image


def to_rgb_or_grey(image: Image.Image) -> Image.Image:
    """Converts to RGB, or to 8 bits of grey (mode L), as Pillow does, except where Pillow would clip:

    - 16 bits of grey: keeps the upper 8.
    - 32 bits of grey, integers or floats, and signed 16 bits: `stretch`.

    Drops transparency, so that hidden colours become visible.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # PGM has 16 bits at most
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(stretch(np.asarray(image)))
    if image.mode in ("L", "RGB"):
        image.load()
        return image
    return image.convert("RGB")


def stretch(values: np.ndarray) -> np.ndarray:
    """Maps the smallest finite value to 0 and the largest to 255, linearly, as ImageJ and matplotlib do.

    NaN and infinities become 0. So does everything if all finite values are equal.

    Args:
        values: int32 or float32 [H, W].

    Returns:
        uint8 [H, W].
    """
    levels = values.astype(np.float64)
    finite = np.isfinite(levels)
    levels[~finite] = np.inf
    low = levels.min()
    levels[~finite] = -np.inf
    high = levels.max()
    if not low < high:
        return np.zeros(values.shape, np.uint8)
    levels[~finite] = low
    levels -= low
    levels *= 255 / (high - low)
    return np.rint(levels, out=levels).astype(np.uint8)
