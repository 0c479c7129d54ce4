"""JPEGs that Pillow does not decode have the pixels that it would give them, and all others reach it."""

from __future__ import annotations

import io
import random

import image_preprocess
import numpy as np
import pytest
from image_preprocess import ImageError, decode
from jpeg_pixels import read_jpeg
from pictures import damaged, encoded
from PIL import Image
from skimage import data

PHOTO = Image.fromarray(data.astronaut()[:301, 50:404])  # of odd sizes
OPTIONS = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4", "quality": 95},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3},
    "RGB": {"keep_rgb": True},
}


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture))


def by_pillow(picture: bytes) -> np.ndarray:
    return np.asarray(opened(picture).convert("RGB"))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pixels_are_pillows(options: dict) -> None:
    picture = encoded(PHOTO, "JPEG", **options)
    np.testing.assert_array_equal(read_jpeg(picture, opened(picture)), by_pillow(picture))


def test_grey_has_one_channel() -> None:
    picture = encoded(PHOTO.convert("L"), "JPEG")
    np.testing.assert_array_equal(read_jpeg(picture, opened(picture)), np.asarray(opened(picture))[..., None])


def test_the_first_picture_of_several_is_read() -> None:
    picture = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)])
    assert opened(picture).format == "MPO"
    np.testing.assert_array_equal(read_jpeg(picture, opened(picture)), by_pillow(picture))


def test_scratch_memory_is_used_if_it_is_large_enough() -> None:
    picture = encoded(PHOTO, "JPEG")
    wanted, (width, height) = by_pillow(picture), PHOTO.size
    large, small = np.zeros(3 * width * height + 5, np.uint8), np.zeros(3 * width * height - 1, np.uint8)
    for scratch, used in ((large, True), (small, False)):
        pixels = decode(picture, scratch=scratch)
        np.testing.assert_array_equal(pixels, wanted)
        assert np.shares_memory(pixels, scratch) == used
    assert not small.any()


@pytest.mark.parametrize(
    "picture",
    [encoded(PHOTO), encoded(PHOTO.convert("CMYK"), "JPEG"), encoded(PHOTO, "JPEG")[:-900]],
    ids=["PNG", "CMYK", "truncated"],
)
def test_pillow_reads_the_rest(picture: bytes) -> None:
    assert read_jpeg(picture, opened(picture)) is None


def test_a_picture_of_another_size_than_its_header_is_left_to_pillow() -> None:
    picture = encoded(PHOTO, "JPEG")
    assert read_jpeg(picture, opened(encoded(PHOTO.crop((0, 0, 90, 80)), "JPEG"))) is None
    assert read_jpeg(picture, opened(picture)) is not None


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the damage
def test_a_damaged_file_becomes_what_pillow_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    small = PHOTO.resize((64, 48))
    pictures = [encoded(small, "JPEG", **options) for options in OPTIONS.values()]
    pictures.append(encoded(small.convert("L"), "JPEG"))
    rng = random.Random(1)
    repaired = refused = 0
    for _ in range(400):
        picture = damaged(rng, rng.choice(pictures))
        found = outcome(picture)
        with monkeypatch.context() as context:
            context.setattr(image_preprocess, "read_jpeg", lambda *_: None)
            wanted = outcome(picture)
        if isinstance(wanted, str):
            assert found == wanted
            refused += 1
        else:
            np.testing.assert_array_equal(found, wanted)
            repaired += read_jpeg(picture, opened(picture)) is None
    assert repaired > 10
    assert refused > 10


def outcome(picture: bytes) -> np.ndarray | str:
    try:
        return decode(picture)
    except ImageError as error:
        return str(error)
