from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from binary_masks import to_png
from mask_postprocess import HOLE_LOGIT, clamp, fill_holes, to_mask
from PIL import Image


def disc_with_hole(hole: int) -> np.ndarray:
    logits = np.full((96, 96), -5, np.float32)
    logits[10:80, 10:80] = 5
    logits[20 : 20 + hole, 20 : 20 + hole] = -1
    return logits


def test_a_hole_of_256_pixels_is_filled_with_10() -> None:
    filled = fill_holes(disc_with_hole(16))
    assert (filled[20:36, 20:36] == 10).all()
    assert (filled[0] == -5).all()  # the large background stays


def test_a_hole_of_257_pixels_stays() -> None:
    logits = disc_with_hole(16)
    logits[36, 20] = -1
    np.testing.assert_array_equal(fill_holes(logits), logits)


def test_holes_that_touch_at_a_corner_are_one() -> None:
    logits = np.full((96, 96), 5, np.float32)
    logits[10:22, 10:22] = -1  # 144 pixels
    logits[22:34, 22:34] = -1  # 144 more, diagonally next to it
    np.testing.assert_array_equal(fill_holes(logits), logits)


def test_zero_is_background() -> None:
    logits = np.full((96, 96), 5, np.float32)
    logits[50, 50] = 0
    assert fill_holes(logits)[50, 50] == 10


def test_nothing_but_foreground_or_background_stays() -> None:
    for value in (5, -5):
        logits = np.full((96, 96), value, np.float32)
        np.testing.assert_array_equal(fill_holes(logits), logits)


@pytest.mark.parametrize("size", [(400, 600), (451, 300), (50, 70), (1, 1)])
def test_the_resize_is_pytorchs_bilinear_without_aligned_corners(size: tuple[int, int]) -> None:
    import torch

    # Without small holes, so that only the resize is seen; the golden cases cover both together.
    logits = np.random.default_rng(0).normal(0, 4, (96, 96)).astype(np.float32)
    logits = np.where(logits <= 0, np.float32(HOLE_LOGIT), logits)
    logits[:, ::17] = -3
    logits[0] = -3
    expected = torch.nn.functional.interpolate(torch.from_numpy(logits)[None, None], size, mode="bilinear")[0, 0] > 0
    mask = to_mask(logits, size)
    assert mask.shape == size
    assert (mask == np.where(expected.numpy(), 255, 0)).mean() >= 0.9999


def test_the_png_holds_the_mask() -> None:
    mask = to_mask(disc_with_hole(20), (301, 203))
    image = Image.open(io.BytesIO(to_png(mask)))
    assert image.mode == "L"
    assert image.size == (203, 301)
    np.testing.assert_array_equal(np.asarray(image), mask)


def test_logits_are_clamped_to_32() -> None:
    assert clamp(np.array([-100.0, -32, 0.5, 99])).tolist() == [-32, -32, 0.5, 32]


@pytest.mark.parametrize("size", [(301, 203), (1, 1), (1, 40), (40, 1)])
def test_every_reader_takes_the_png(size: tuple[int, int]) -> None:
    mask = np.where(np.random.default_rng(0).random(size) < 0.3, 255, 0).astype(np.uint8)
    png = to_png(mask)
    Image.open(io.BytesIO(png)).verify()  # every chunk's checksum
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)  # libpng
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask)


def test_the_png_is_about_as_small_as_opencvs() -> None:
    mask = to_mask(disc_with_hole(20), (1024, 1024))
    _, opencvs = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert len(to_png(mask)) < 1.1 * len(opencvs)
