from __future__ import annotations

import hashlib
import io
from pathlib import Path

import golden
import numpy as np
import pytest
from PIL import Image
from sam3_triton import InvalidInputError
from sam3_triton.images import EncodedImage

PHOTO = golden.FOLDER / "rocket.png"


def test_a_file_is_sent_unchanged_and_its_id_is_its_sha256() -> None:
    data = PHOTO.read_bytes()
    for source in (PHOTO, str(PHOTO), data):
        assert EncodedImage.of(source) == EncodedImage(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_pixels_are_sent_without_loss(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for source in (pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(EncodedImage.of(source).data))), pixels)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (Path("nowhere.jpg"), "nowhere.jpg: No such file"),
        (np.zeros((5, 7, 3), np.float32), r"uint8 \[H, W, 3\] or \[H, W\], not float32"),
        (np.zeros((5, 7, 4), np.uint8), r"not uint8 \[5, 7, 4\]"),
        (np.zeros((0, 7, 3), np.uint8), "no pixels"),
        (7, "not int"),
    ],
)
def test_the_fault_of_an_invalid_image_is_named(source: object, fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault):
        EncodedImage.of(source)  # type: ignore[arg-type]
