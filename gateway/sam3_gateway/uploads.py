"""Inspects an uploaded image: reads its header and computes its id."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError
from sam3_triton import EncodedImage, InvalidInputError

# The formats of browsers and cameras. Pillow's decoders for other formats are poorly maintained.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")


class UnknownFormatError(InvalidInputError):
    """The bytes are in none of the accepted formats."""


class TooLargeError(InvalidInputError):
    """The image has too many bytes or pixels."""


@dataclass(frozen=True)
class Upload:
    """An uploaded image, not yet decoded.

    Attributes:
        size: width, height in pixels as stored; EXIF orientation is not applied.
    """

    image: EncodedImage
    size: tuple[int, int]


def inspect(data: bytes, max_pixels: int) -> Upload:
    """Reads the header and computes the id. Takes milliseconds, tens of milliseconds for large files.

    Raises:
        InvalidInputError: the file is empty, or its header is damaged.
        UnknownFormatError: the format is not accepted.
        TooLargeError: the image has more than `max_pixels` pixels.
    """
    if not data:
        raise InvalidInputError("invalid image: it is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                size = image.size
    except UnidentifiedImageError as error:
        raise UnknownFormatError(
            f"invalid image: it is none of {', '.join(FORMATS)}, or its header is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the image has too many pixels; at most {max_pixels} are accepted") from error
    except Exception as error:  # Pillow's plugins raise many kinds of errors on damaged headers
        raise InvalidInputError(f"invalid image: its header is damaged ({error})") from error
    if size[0] * size[1] > max_pixels:
        raise TooLargeError(f"the image has {size[0]} x {size[1]} pixels; at most {max_pixels} are accepted")
    return Upload(EncodedImage.of(data), size)
