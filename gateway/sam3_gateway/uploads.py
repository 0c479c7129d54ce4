"""Inspects an uploaded image: reads its header and computes its id."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError
from sam3_triton import EncodedImage, InvalidInputError

from sam3_gateway.picture_formats import lacks_extra, readable


class UnknownFormatError(InvalidInputError):
    """The bytes are in none of the accepted formats."""


class TooLargeError(InvalidInputError):
    """The image has too many bytes or pixels."""


@dataclass(frozen=True)
class Upload:
    """An uploaded image, not yet decoded.

    Attributes:
        size: width, height in pixels as stored; EXIF orientation is not applied, but that of HEIF is.
    """

    image: EncodedImage
    size: tuple[int, int]


def inspect(data: bytes, max_pixels: int, formats: tuple[str, ...]) -> Upload:
    """Reads the header and computes the id. Takes milliseconds, tens of milliseconds for large files.

    Args:
        formats: the formats that are accepted, by Pillow's names.

    Raises:
        InvalidInputError: the file is empty, or its header is damaged.
        UnknownFormatError: the format is not accepted, or it is HEIF and the extra `heic` is not installed.
        TooLargeError: the image has more than `max_pixels` pixels.
    """
    if not data:
        raise InvalidInputError("invalid image: it is empty (0 bytes)")
    if lacks_extra(data, formats):
        raise UnknownFormatError("invalid image: HEIC needs an extra: pip install 'sam3-triton-gateway[heic]'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=readable(formats)) as image:
                size = image.size
    except UnidentifiedImageError as error:
        raise UnknownFormatError(
            f"invalid image: it is none of {', '.join(formats)}, or its header is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"the image has too many pixels; at most {max_pixels} are accepted") from error
    except Exception as error:  # Pillow's plugins raise many kinds of errors on damaged headers
        raise InvalidInputError(f"invalid image: its header is damaged ({error})") from error
    if size[0] * size[1] > max_pixels:
        raise TooLargeError(f"the image has {size[0]} x {size[1]} pixels; at most {max_pixels} are accepted")
    return Upload(EncodedImage.of(data), size)
