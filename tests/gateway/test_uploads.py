from __future__ import annotations

import hashlib
import io
import struct
import time
import zlib

import pytest
from pictures import fresh_image
from PIL import Image
from sam3_gateway.uploads import FORMATS, TooLargeError, UnknownFormatError, inspect
from sam3_triton import InvalidInputError

MOST = 1_000_000


def encoded(kind: str, size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header declares a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_formats_of_browsers_and_cameras(kind: str) -> None:
    data = encoded(kind)
    upload = inspect(data, MOST)
    assert upload.size == (30, 20)
    assert upload.image.data == data
    assert upload.image.image_id == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", [encoded("PPM"), encoded("TGA"), b"hello", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_other_formats(data: bytes) -> None:
    with pytest.raises(UnknownFormatError, match="none of PNG, JPEG"):
        inspect(data, MOST)


def test_an_empty_file() -> None:
    with pytest.raises(InvalidInputError, match=r"it is empty \(0 bytes\)"):
        inspect(b"", MOST)


@pytest.mark.parametrize("size", [(1001, 1000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_from_its_header(size: tuple[int, int]) -> None:
    started = time.process_time()
    with pytest.raises(TooLargeError, match="pixels"):
        inspect(bomb(*size), MOST)
    assert time.process_time() - started < 1


def test_the_limit_itself_is_accepted() -> None:
    assert inspect(bomb(1000, 1000), MOST).size == (1000, 1000)


def test_a_damaged_header() -> None:
    with pytest.raises(InvalidInputError, match="invalid image"):
        inspect(fresh_image()[:20], MOST)
