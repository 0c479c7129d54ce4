"""Pictures of every accepted format, through the gateway and Triton."""

from __future__ import annotations

import io
from pathlib import Path

import golden
import numpy as np
import pytest
import requests
from pictures import HEIC, TURNED_HEIC, encoded, oversized
from PIL import Image
from processes import run_gateway, run_triton
from repository import copy_repository, link_artifacts
from sam3_gateway import picture_formats
from sam3_triton import InvalidInputError, Sam3Client
from tritonclient.utils import InferenceServerException

FORMATS = picture_formats.parse(picture_formats.DEFAULT)
PHOTO = Image.open(golden.FOLDER / "coffee.png").convert("RGB")
GREY = np.asarray(PHOTO.convert("L"))
# From 0 to 255, so that stretching it changes nothing.
LEVELS = np.rint((GREY - GREY.min()) * (255 / np.ptp(GREY))).astype(np.uint8)
TWIN = Image.fromarray(LEVELS)
LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "TIFF, Deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF, LZMA": {"compression": "lzma"},
    "JPEG2000": {},
    "JPEG2000, tiles": {"tile_size": (256, 256)},
    "PPM": {},
}


def mask(gateway: str, picture: bytes, point: str = "[[300, 200]]") -> np.ndarray:
    answer = requests.post(f"{gateway}/predict/mask", files={"image": picture}, data={"points": point}, timeout=60)
    assert answer.status_code == 200, answer.text
    pixels = np.asarray(Image.open(io.BytesIO(answer.content))) > 0
    assert pixels.any()
    return pixels


def refused(gateway: str, picture: bytes) -> tuple[int, str]:
    answer = requests.post(f"{gateway}/v1/images", files={"image": picture}, timeout=60)
    return answer.status_code, answer.json()["detail"]


def png_twin(picture: bytes) -> bytes:
    """What Pillow makes of the picture, as PNG."""
    return encoded(Image.open(io.BytesIO(picture)).convert("RGB"))


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_has_the_mask_of_the_photo(gateway: str, name: str) -> None:
    picture = encoded(PHOTO, name.split(",")[0], **LOSSLESS[name])
    np.testing.assert_array_equal(mask(gateway, picture), mask(gateway, encoded(PHOTO)))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_each_format_has_the_mask_of_its_png_twin(gateway: str, kind: str) -> None:
    picture = HEIC.read_bytes() if kind == "HEIF" else encoded(PHOTO, kind)
    point = "[[75, 50]]" if kind == "HEIF" else "[[300, 200]]"
    np.testing.assert_array_equal(mask(gateway, picture, point), mask(gateway, png_twin(picture), point))


def test_the_mask_of_a_turned_heic_is_upright(gateway: str) -> None:
    picture = TURNED_HEIC.read_bytes()
    upright = mask(gateway, picture, "[[50, 75]]")
    assert upright.shape == (150, 100)
    np.testing.assert_array_equal(upright, mask(gateway, png_twin(picture), "[[50, 75]]"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "LAB"])
def test_the_mask_of_each_mode_is_that_of_its_png_twin(gateway: str, mode: str) -> None:
    photo = Image.merge("LAB", PHOTO.split()) if mode == "LAB" else PHOTO.convert(mode)
    picture = encoded(photo, "TIFF")
    assert Image.open(io.BytesIO(picture)).mode == mode
    np.testing.assert_array_equal(mask(gateway, picture), mask(gateway, png_twin(picture)))


@pytest.mark.parametrize(
    "picture",
    [
        encoded(Image.fromarray(LEVELS.astype(np.float32) / 255 - 3), "TIFF"),
        encoded(Image.fromarray(LEVELS.astype(np.float32) * 1e6), "PPM"),
        encoded(Image.fromarray(LEVELS.astype(np.int32) * 70_000 - 9), "TIFF"),
        encoded(Image.fromarray(LEVELS.astype(np.uint16) << 8), "PNG"),
        encoded(Image.fromarray(LEVELS.astype(np.uint16) << 8 | 77), "TIFF"),
        encoded(Image.fromarray(LEVELS.astype(np.uint16) << 8), "JPEG2000"),
        encoded(Image.fromarray(LEVELS.astype(np.uint16) << 8), "PPM"),
    ],
    ids=["float TIFF", "PFM", "int32 TIFF", "16-bit PNG", "16-bit TIFF", "16-bit JPEG 2000", "16-bit PGM"],
)
def test_sixteen_and_thirty_two_bits_have_the_mask_of_their_eight_bit_twin(gateway: str, picture: bytes) -> None:
    np.testing.assert_array_equal(mask(gateway, picture), mask(gateway, encoded(TWIN)))


def test_missing_values_are_black(gateway: str) -> None:
    values = LEVELS.astype(np.float32)
    values[:50, :70] = np.nan
    black = LEVELS.copy()
    black[:50, :70] = 0
    picture = encoded(Image.fromarray(values), "TIFF")
    np.testing.assert_array_equal(mask(gateway, picture), mask(gateway, encoded(Image.fromarray(black))))


@pytest.mark.parametrize("kind", FORMATS)
def test_too_many_pixels_are_refused_from_the_header(gateway: str, server, kind: str) -> None:
    picture = oversized(kind)
    assert refused(gateway, picture) == (413, "the image has too many pixels; at most 64000000 are accepted")
    with (
        Sam3Client(server.grpc_url) as client,
        pytest.raises(InvalidInputError, match="it has too many pixels .* limit of 178956970 pixels"),
    ):
        client.set_image(picture)


def test_other_formats_are_refused_by_both(gateway: str, server) -> None:
    picture = encoded(PHOTO, "TGA")
    status, fault = refused(gateway, picture)
    assert (status, fault.startswith("invalid image: it is none of PNG, JPEG, WEBP")) == (415, True)
    with Sam3Client(server.grpc_url) as client, pytest.raises(InvalidInputError, match="none of PNG, JPEG, WEBP"):
        client.set_image(picture)


def test_without_the_extra_the_gateway_names_it(server, tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text("raise ImportError")
    with run_gateway(server.grpc_url, PYTHONPATH=str(tmp_path)) as url:
        fault = "invalid image: HEIC needs an extra: pip install 'sam3-triton-gateway[heic]'"
        assert refused(url, HEIC.read_bytes()) == (415, fault)


def test_formats_are_settings_of_both(exported: Path, server, tmp_path: Path) -> None:
    with run_gateway(server.grpc_url, "--picture-formats", "PNG,TGA") as url:
        assert refused(url, encoded(PHOTO, "BMP"))[0] == 415
        status, fault = refused(url, encoded(PHOTO, "TGA"))  # which this Triton does not take
        assert (status, fault.startswith("invalid image: its ")) == (400, True)
    repository = copy_repository(tmp_path)
    link_artifacts(exported, repository)
    config = repository / "sam3_preprocess" / "config.pbtxt"
    with run_triton(repository, tmp_path / "triton.log", "--exit-timeout-secs=1") as (_, control):
        control.load_model("sam3_preprocess")
        config.write_text(config.read_text().replace("JPEG2000", "JP2"))
        with pytest.raises(InferenceServerException, match="picture_formats: unknown format 'JP2'"):
            control.load_model("sam3_preprocess")
