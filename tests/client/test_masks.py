from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sam3_triton import InvalidInputError, overlay, save_mask
from sam3_triton.masks import open_image


def test_a_mask_is_saved_as_grey_png(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    path = save_mask(mask, tmp_path / "mask.png")
    assert path.is_absolute()
    image = Image.open(path)
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image) == 255, mask)
    assert save_mask(path.read_bytes(), tmp_path / "copy.png").read_bytes() == path.read_bytes()


def test_an_overlay_changes_the_photo_where_the_mask_and_the_prompt_are() -> None:
    photo = Image.new("RGB", (60, 40), (10, 10, 10))
    mask = np.zeros((40, 60), bool)
    mask[5:20, 5:20] = True
    picture = np.asarray(overlay(photo, mask, [(50, 30)], [0], (30, 2, 40, 10)))
    assert picture.shape == (40, 60, 3)
    assert (picture[10, 10] != 10).any()  # in the mask
    assert picture[30, 50].tolist() == [230, 60, 50]  # a background click is red
    assert picture[2, 35].tolist() == [255, 255, 255]  # the box
    assert picture[35, 10].tolist() == [10, 10, 10]  # the rest stays


def test_a_photo_of_sixteen_bits_is_shown_as_the_server_sees_it() -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    np.testing.assert_array_equal(np.asarray(open_image(buffer.getvalue()))[..., 0], grey >> 8)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "TIFF"), (np.int32, "TIFF"), (np.uint16, "PPM")])
def test_so_is_one_of_other_depths(dtype: type, kind: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = levels.astype(dtype) << 8 if dtype == np.uint16 else levels.astype(dtype) * 12 - 500
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    np.testing.assert_array_equal(np.asarray(open_image(buffer.getvalue()))[..., 0], levels)


def test_missing_values_are_black_and_so_is_a_constant_photo() -> None:
    for values, expected in (([[np.nan, 2, 6, np.inf]], [[0, 0, 255, 0]]), ([[7, 7]], [[0, 0]]), ([[np.nan]], [[0]])):
        buffer = io.BytesIO()
        Image.fromarray(np.array(values, np.float32)).save(buffer, "TIFF")
        np.testing.assert_array_equal(np.asarray(open_image(buffer.getvalue()))[..., 0], expected)


def test_a_photo_that_pillow_cannot_open_is_named() -> None:
    with pytest.raises(InvalidInputError, match="cannot open the photo to draw over it"):
        open_image(b"\0\0\0\x18ftypheic")
