"""An uploaded image: looked at as far as its header, and given its id."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError
from sam3_triton import EncodedImage, InvalidInputError

# What browsers and cameras make. Pillow knows many more, whose decoders nobody looks after.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")


class UnknownFormatError(InvalidInputError):
    """The bytes are of no format that is accepted."""


class TooLargeError(InvalidInputError):
    """More bytes or pixels than are accepted."""


@dataclass(frozen=True)
class Upload:
    """An image that was not decoded yet.

    Attributes:
        size: width, height in pixels as stored; EXIF orientation is not applied.
    """

    image: EncodedImage
    size: tuple[int, int]


def inspect(data: bytes, max_pixels: int) -> Upload:
    """Reads the header and computes the id; takes milliseconds, tens of them for large files.

    Raises:
        InvalidInputError: empty, or its header is damaged.
        UnknownFormatError, TooLargeError: see there.
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
            f"invalid image: it is none of {', '.join(FORMATS)}, or its start is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the image has more pixels than are accepted ({max_pixels})") from error
    except Exception as error:  # Pillow's plugins raise errors of many kinds on damaged headers
        raise InvalidInputError(f"invalid image: its header is damaged ({error})") from error
    if size[0] * size[1] > max_pixels:
        raise TooLargeError(f"the image has {size[0]} x {size[1]} pixels; at most {max_pixels} are accepted")
    return Upload(EncodedImage.of(data), size)
