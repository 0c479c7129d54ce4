from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import HEIC, TURNED_HEIC, encoded, fresh_image, oversized
from PIL import Image
from sam3_gateway import picture_formats
from sam3_gateway.uploads import TooLargeError, UnknownFormatError, inspect
from sam3_triton import InvalidInputError

MOST = 1_000_000
FORMATS = picture_formats.parse(picture_formats.DEFAULT)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_accepted_formats(kind: str) -> None:
    data = HEIC.read_bytes() if kind == "HEIF" else encoded(Image.new("RGB", (150, 100)), kind)
    upload = inspect(data, MOST, FORMATS)
    assert upload.size == (150, 100)
    assert upload.image.data == data
    assert upload.image.image_id == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "data", [encoded(Image.new("RGB", (9, 9)), "TGA"), b"hello", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_other_formats(data: bytes) -> None:
    with pytest.raises(UnknownFormatError, match="none of PNG, JPEG"):
        inspect(data, MOST, FORMATS)


def test_formats_are_a_setting() -> None:
    data = encoded(Image.new("RGB", (9, 9)), "TGA")
    assert inspect(data, MOST, ("PNG", "TGA")).size == (9, 9)
    with pytest.raises(UnknownFormatError, match="none of PNG, TGA"):
        inspect(encoded(Image.new("RGB", (9, 9)), "BMP"), MOST, ("PNG", "TGA"))
    with pytest.raises(UnknownFormatError, match="none of PNG,"):
        inspect(HEIC.read_bytes(), MOST, ("PNG",))


def test_heics_own_orientation_is_applied() -> None:
    assert inspect(TURNED_HEIC.read_bytes(), MOST, FORMATS).size == (100, 150)


def test_without_the_extra_heic_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text("raise ImportError")
    code = f"""if True:
        import sys
        from sam3_gateway import picture_formats, uploads
        formats = picture_formats.parse(picture_formats.DEFAULT)
        try:
            uploads.inspect(open({str(HEIC)!r}, "rb").read(), 10**6, formats)
        except uploads.UnknownFormatError as error:
            print(error)
        print(uploads.inspect(sys.stdin.buffer.read(), 10**6, formats).size)
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=environment, input=fresh_image(), capture_output=True, check=True).stdout
    assert output.decode().splitlines() == [
        "invalid image: HEIC needs an extra: pip install 'sam3-triton-gateway[heic]'",
        "(120, 80)",
    ]


def test_an_empty_file() -> None:
    with pytest.raises(InvalidInputError, match=r"it is empty \(0 bytes\)"):
        inspect(b"", MOST, FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_decompression_bomb_is_refused_from_its_header(kind: str) -> None:
    data = oversized(kind)
    started = time.process_time()
    with pytest.raises(TooLargeError, match="too many pixels; at most 1000000 are accepted"):
        inspect(data, MOST, FORMATS)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "HEIF"])
def test_the_limit_itself_is_accepted(kind: str) -> None:
    data = encoded(Image.new("RGB", (60, 50)), kind)
    assert inspect(data, 3000, FORMATS).size == (60, 50)
    with pytest.raises(TooLargeError, match="60 x 50 pixels; at most 2999"):
        inspect(data, 2999, FORMATS)


def test_a_damaged_header() -> None:
    with pytest.raises(InvalidInputError, match="invalid image"):
        inspect(fresh_image()[:20], MOST, FORMATS)
