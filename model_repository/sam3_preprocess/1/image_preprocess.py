"""Turns an encoded image into the network's input pixels, as Meta's predictor does. Independent of Triton."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

# Starts every message about an unreadable image. The embedding cache recognises the caller's mistake by it, because
# Triton drops the error's code in a call between models.
INVALID_IMAGE = "invalid image: "


class ImageError(ValueError):
    """The bytes are not a readable image."""

    def __init__(self, reason: str) -> None:
        super().__init__(INVALID_IMAGE + reason)


def decode(encoded: bytes) -> Image.Image:
    """Decodes a PNG, JPEG, WebP, ... to an RGB image, its pixels as stored: EXIF orientation is not applied.

    Keeps the upper 8 of 16 bits. Drops transparency, so that hidden colours become visible.

    Raises:
        ImageError: empty, not an image, truncated, of 32 bits, or too many pixels (Pillow's limit).
    """
    if not encoded:
        raise ImageError("it is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it warns below the limit too
            with Image.open(io.BytesIO(encoded)) as image:
                return _to_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"the format of its {len(encoded)} bytes is not known") from error
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has too many pixels ({error})") from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        raise ImageError(f"it is damaged or truncated ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 16-bit grey, which Pillow's own conversion clips to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError("its pixels have 32 bits; 8 and 16 bits are supported")
    return image.convert("RGB")


def to_network_pixels(image: Image.Image, size: int) -> np.ndarray:
    """Resizes an RGB image to uint8 [1, size, size, 3]: squashed to a square, bilinear with antialiasing."""
    resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)[None]
