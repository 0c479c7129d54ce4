"""Turns an encoded image into the network's input pixels, as Meta's predictor does. Independent of Triton."""

from __future__ import annotations

import io
import warnings

import numpy as np
from antialiased_resize import resize
from jpeg_pixels import read_jpeg
from memory_bound import memory_bound
from picture_formats import ANY, lacks_heif, readable
from PIL import Image, UnidentifiedImageError
from rgb_pixels import to_rgb_or_grey

# Starts every message about an unreadable image. The embedding cache recognises the caller's mistake by it, because
# Triton drops the error's code in a call between models.
INVALID_IMAGE = "invalid image: "
# A server's scratch memory: the pixels of a JPEG of 16 megapixels. Until an image needs it, it takes none.
SCRATCH_BYTES = 48 << 20
# What decoding may allocate. A damaged or malicious file can make a decoder allocate gigabytes for a picture that its
# header calls small, for example for the tiles of a TIFF or the code blocks of a JPEG 2000. Sound pictures needed up to
# 32 bytes a pixel when measured (HEIF); the rest is for the buffers and stacks of decoders' threads.
_BYTES_PER_PIXEL = 40
_BYTES_BESIDES = 1 << 30


class ImageError(ValueError):
    """The bytes are not a readable image."""

    def __init__(self, reason: str) -> None:
        super().__init__(INVALID_IMAGE + reason)


def decode(encoded: bytes, formats: tuple[str, ...] = ANY, scratch: np.ndarray | None = None) -> np.ndarray:
    """Decodes a picture, its pixels as stored: EXIF orientation is not applied, but that of HEIF is.

    Args:
        formats: the formats that are accepted, by Pillow's names.
        scratch: uint8; the pixels may be a part of it. The system takes 6 ms to provide new memory for 12 megapixels.

    Returns:
        RGB, uint8 [H, W, 3]; or grey, uint8 [H, W, 1].

    Raises:
        ImageError: empty, in none of the formats, truncated, or too many pixels (Pillow's limit).
    """
    if not encoded:
        raise ImageError("it is empty (0 bytes)")
    if lacks_heif(encoded, formats):
        raise ImageError("HEIC needs a package in Triton's Python: pip install 'sam3-triton-server[heic]'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures below the limit, and of damage that Pillow repairs
            with Image.open(io.BytesIO(encoded), formats=readable(formats)) as image:
                return _pixels(encoded, image, scratch)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"its {len(encoded)} bytes are none of {', '.join(formats)}, or their header is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has too many pixels ({error})") from error
    except MemoryError as error:
        raise ImageError("it is damaged: decoding it takes more memory than its size explains") from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        raise ImageError(f"it is damaged or truncated ({error})") from error


def _pixels(encoded: bytes, image: Image.Image, scratch: np.ndarray | None) -> np.ndarray:
    with memory_bound(_BYTES_BESIDES + _BYTES_PER_PIXEL * image.width * image.height):
        pixels = read_jpeg(encoded, image, scratch)
        if pixels is not None:
            return pixels
        image = to_rgb_or_grey(image)
    return np.asarray(image).reshape(image.height, image.width, -1)


def to_network_pixels(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes what `decode` returns to uint8 [1, size, size, 3]: squashed to a square, bilinear with antialiasing.

    Across first, then down, each rounded to grey levels, as torchvision does for Meta.
    """
    resized = resize(pixels, (size, size))
    return (resized if resized.shape[2] == 3 else np.repeat(resized, 3, axis=2))[None]
