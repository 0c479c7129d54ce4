from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sam3_triton import overlay, save_mask
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
