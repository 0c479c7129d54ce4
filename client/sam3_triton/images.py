"""Converts images as callers pass them to the encoded bytes that are sent."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam3_triton.errors import InvalidInputError

# Level 1 is fast. The image is sent only once, so better compression is not worth the caller's time.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class CachedImage:
    """An image that the server already has.

    Attributes:
        image_id: sha256 of the image file in lowercase hex, from `set_image` or from an earlier answer.
    """

    image_id: str


@dataclass(frozen=True)
class EncodedImage:
    """The bytes of an image file and their sha256, which is the server's id for them."""

    data: bytes
    image_id: str

    @classmethod
    def of(cls, source: ImageSource) -> EncodedImage:
        """Keeps the bytes of an image file, reads a path, and encodes pixels as PNG.

        Args:
            source: a path, the bytes of an image file, a PIL image, or pixels uint8 [H, W, 3] (RGB) or [H, W] (grey).
                An `EncodedImage` is returned unchanged.

        Raises:
            InvalidInputError: the path cannot be read, or the pixels have a wrong shape or dtype.
        """
        if isinstance(source, EncodedImage):
            return source
        data = _encode(source)
        return cls(data, hashlib.sha256(data).hexdigest())


ImageSource = str | Path | bytes | Image.Image | np.ndarray | EncodedImage


def one_of(image: ImageSource | None, image_id: str | None) -> ImageSource | CachedImage:
    """Returns whichever of the two was given.

    Raises:
        InvalidInputError: neither or both were given.
    """
    if image is not None and image_id is None:
        return image
    if image_id is not None and image is None:
        return CachedImage(image_id)
    raise InvalidInputError("give an image or an image_id, and not both")


def _encode(source: ImageSource) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (str, Path)):
        try:
            return Path(source).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{source}: {error.strerror or error}") from error
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)):
            raise InvalidInputError(
                f"pixels must be uint8 [H, W, 3] or [H, W], not {source.dtype} {list(source.shape)}"
            )
        if not source.size:
            raise InvalidInputError(f"the image has no pixels: its shape is {list(source.shape)}")
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        source.save(buffer, "PNG", compress_level=_PNG_LEVEL)
        return buffer.getvalue()
    raise InvalidInputError(f"an image is a path, bytes, a PIL image or an array, not {type(source).__name__}")
