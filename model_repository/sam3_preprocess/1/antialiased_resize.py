"""Resizes with a triangle filter that is as wide as the scale, like torchvision and Pillow. Independent of Triton."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

try:
    import cykooz_resizer as simd
except ImportError:  # it has no wheels for Linux on ARM
    simd = None
else:
    _PIXEL_TYPES = {1: simd.PixelType.U8, 3: simd.PixelType.U8x3}
    _RESIZER = simd.Resizer()
    _TRIANGLE = simd.ResizeOptions(resize_alg=simd.ResizeAlg.convolution(simd.FilterType.bilinear), use_alpha=False)

# Rows are resized in strips, which stay in the processor's cache. Smaller ones take longer, because the weights are
# computed again for each.
_STRIP_BYTES = 2 << 20
# Between the two passes; Pillow's limit for pictures. Only those of more than 178,000 rows exceed it.
_MOST_PIXELS = 179_000_000
# The share of values of noise that may differ by a grey level. In photos it is less than half of that.
_MOST_DIFFERENT = 0.004
# From this scale on, no ratio has many sums halfway between two grey levels.
_LARGE_SCALE = 8

Size = tuple[int, int]
"""Width and height."""


def resize(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Resizes across first, then down, each rounded to grey levels.

    Where the package cykooz-resizer rounds like Pillow, it is used: it takes a third of Pillow's time. If the result of
    the first pass would be huge, begins with the other axis: then up to an eighth of the values differ.

    Args:
        pixels: uint8 [H, W, C], with 1 or 3 channels.

    Returns:
        uint8 [height, width, C].
    """
    rows = pixels.shape[0]
    if rows * size[0] > _MOST_PIXELS:
        return _across(_down(pixels, size[1]), size[0])
    return _down(_across(pixels, size[0]), size[1])


def _across(pixels: np.ndarray, width: int) -> np.ndarray:
    rows, columns, channels = pixels.shape
    if not _rounds_like_pillow(columns, width):
        return _by_pillow(pixels, (width, rows))
    step = max(1, _STRIP_BYTES // (columns * channels))
    strips = (pixels[top : top + step] for top in range(0, rows, step))
    resized = b"".join(_by_simd(strip, (width, len(strip))) for strip in strips)
    return np.frombuffer(resized, np.uint8).reshape(rows, width, channels)


def _down(pixels: np.ndarray, height: int) -> np.ndarray:
    rows, columns, channels = pixels.shape
    if not _rounds_like_pillow(rows, height):
        return _by_pillow(pixels, (columns, height))
    return np.frombuffer(_by_simd(pixels, (columns, height)), np.uint8).reshape(height, columns, channels)


@lru_cache(maxsize=1024)
def _rounds_like_pillow(length: int, wanted: int) -> bool:
    """Whether the package's shorter weights (15 bits, Pillow's have 22) matter for this ratio.

    They do at some, such as 5:4, where many sums lie halfway between two grey levels, and where pictures are enlarged.
    """
    if simd is None or length > _LARGE_SCALE * wanted:
        return simd is not None
    noise = np.random.default_rng(0).integers(0, 256, (16, length, 3), np.uint8)
    found = np.frombuffer(_by_simd(noise, (wanted, 16)), np.uint8)
    return bool(np.mean(found != _by_pillow(noise, (wanted, 16)).reshape(-1)) <= _MOST_DIFFERENT)


def _by_simd(pixels: np.ndarray, size: Size) -> bytes:
    rows, columns, channels = pixels.shape
    resized = simd.ImageData(*size, _PIXEL_TYPES[channels])
    _RESIZER.resize(simd.ImageData(columns, rows, _PIXEL_TYPES[channels], pixels.tobytes()), resized, _TRIANGLE)
    return resized.get_buffer()


def _by_pillow(pixels: np.ndarray, size: Size) -> np.ndarray:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR)).reshape(size[1], size[0], pixels.shape[2])
