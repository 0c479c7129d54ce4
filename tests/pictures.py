"""Small pictures that no server has cached yet."""

from __future__ import annotations

import io
import itertools

import numpy as np
from PIL import Image

_numbers = itertools.count()


def fresh_image(width: int = 120, height: int = 80) -> bytes:
    """A PNG of noise, different on every call."""
    pixels = np.random.default_rng(next(_numbers)).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
