from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import picture_formats
import pytest
from google.protobuf import text_format
from pictures import HEIC
from PIL import Image
from repository import PROJECT
from sam3_gateway import picture_formats as of_gateway
from tritonclient.grpc import model_config_pb2

CONFIG = PROJECT / "model_repository" / "sam3_preprocess" / "config.pbtxt"


def test_triton_and_the_gateway_accept_the_same_formats() -> None:
    config = text_format.Parse(CONFIG.read_text(), model_config_pb2.ModelConfig())
    text = config.parameters["picture_formats"].string_value
    assert picture_formats.parse(text) == of_gateway.parse(of_gateway.DEFAULT)
    assert text == of_gateway.DEFAULT


def test_names_are_pillows() -> None:
    assert picture_formats.parse(" png, TGA,") == ("PNG", "TGA")
    assert picture_formats.readable(("PNG", "HEIF")) == ("PNG", "HEIF")
    with pytest.raises(ValueError, match="picture_formats: unknown format 'JPG'; the formats are AVIF"):
        picture_formats.parse("PNG,JPG")
    with pytest.raises(ValueError, match="picture_formats is empty"):
        picture_formats.parse(" , ")


def test_the_documentation_speaks_of_every_format() -> None:
    Image.init()
    text = (PROJECT / "docs" / "pictures.md").read_text()
    missing = [name for name in picture_formats.ANY if f"`{name}`" not in text]
    assert not missing


def test_without_the_extra_heic_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text("raise ImportError")
    code = f"""if True:
        import io
        from PIL import Image
        from image_preprocess import ImageError, decode
        formats = ("PNG", "HEIF")
        try:
            decode(open({str(HEIC)!r}, "rb").read(), formats)
        except ImageError as error:
            print(error)
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9)).save(buffer, "PNG")
        print(decode(buffer.getvalue(), formats).shape)
    """
    paths = [str(tmp_path), str(Path(picture_formats.__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert output.decode().splitlines() == [
        "invalid image: HEIC needs a package in Triton's Python: pip install 'sam3-triton-server[heic]'",
        "(9, 9, 3)",
    ]
