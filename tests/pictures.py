"""Pictures for tests: small ones that no server has cached yet, and files of every accepted format."""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

_numbers = itertools.count()


def fresh_image(width: int = 120, height: int = 80) -> bytes:
    """A PNG of noise, different on every call."""
    pixels = np.random.default_rng(next(_numbers)).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# The golden coffee as phones write photos (by pillow-heif), 150 x 100 pixels. The second has the box irot, which turns
# it by 90 degrees.
HEIC = Path(__file__).parent / "data" / "pictures" / "coffee.heic"
TURNED_HEIC = HEIC.with_name("coffee_turned.heic")
# The largest sizes that the headers of these formats can declare; others declare 2**31 - 1.
_LARGEST = {"AVIF": 16000, "GIF": 65535, "JPEG": 65535, "WEBP": 16384}


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image as a file of a format, by Pillow's name for it. HEIF is not written by what the tests install."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(rng: random.Random, picture: bytes) -> bytes:
    """Cut, with flipped bits, or with other numbers, mostly in the header."""
    data = bytearray(picture)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(data), rng.choice((40, 200, len(data)))))
        match rng.randrange(4):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place : place + 2] = struct.pack(rng.choice((">H", "<H")), rng.choice((0, 1, 255, 4096, 65535)))
            case 2:
                number = rng.choice((0, 1, 65536, 2**31 - 1, 2**31, 2**32 - 1))
                data[place : place + 4] = struct.pack(rng.choice((">I", "<I")), number)
            case 3:
                del data[max(1, rng.randrange(len(data))) :]
    return bytes(data)


def oversized(kind: str) -> bytes:
    """A file of a few kilobytes whose header declares too many pixels."""
    side = _LARGEST.get(kind, 2**31 - 1)
    size = (side, side)
    if kind == "PNG":
        return _png(*size)
    if kind == "PPM":
        return b"P6 %d %d 255\n" % size
    data = bytearray(HEIC.read_bytes() if kind == "HEIF" else encoded(Image.new("RGB", (40, 30)), kind))
    match kind:
        case "JPEG":
            struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, *size)
        case "GIF":
            struct.pack_into("<HH", data, 6, *size)
        case "BMP":
            struct.pack_into("<ii", data, 18, *size)
        case "TIFF":
            for tag in (256, 257):
                struct.pack_into("<HHII", data, data.index(struct.pack("<HHI", tag, 4, 1)), tag, 4, 1, side)
        case "JPEG2000":
            struct.pack_into(">II", data, data.index(b"ihdr") + 4, *size)
            struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, *size)
        case "WEBP":
            struct.pack_into("<HH", data, data.index(b"VP8 ") + 14, side - 1, side - 1)
        case "AVIF" | "HEIF":
            struct.pack_into(">II", data, data.index(b"ispe") + 8, *size)
    return bytes(data)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
