"""The resize is Pillow's within one grey level in one of a hundred values; Meta's predictor resizes like Pillow."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import antialiased_resize
import golden
import numpy as np
import pytest
from antialiased_resize import resize
from image_preprocess import decode, to_network_pixels
from pictures import encoded
from PIL import Image
from skimage import data

SIDE = 1008
COFFEE = Image.open(golden.FOLDER / "coffee.png").convert("RGB")
# Scaled up, a photo has fewer details than one of that size: the resize rounds the same way.
PHOTOS = {
    "12 megapixels": COFFEE.resize((4000, 3000), Image.Resampling.LANCZOS),
    "2 megapixels": COFFEE.resize((1600, 1200), Image.Resampling.LANCZOS),
    # At 5:4 and 9:4, a fast resize rounds many values the other way.
    "5 to 4": COFFEE.resize((1260, 1260), Image.Resampling.LANCZOS),
    "9 to 4": COFFEE.resize((2268, 1701), Image.Resampling.LANCZOS),
    "tall": COFFEE.resize((300, 5000), Image.Resampling.LANCZOS),
    "coffee": COFFEE,
    "rocket": Image.open(golden.FOLDER / "rocket.png").convert("RGB"),
    "chelsea": Image.open(golden.FOLDER / "chelsea_tall.png").convert("RGB"),
    "astronaut": Image.fromarray(data.astronaut()),
    "cells": Image.fromarray(data.cell()),
    "one row": COFFEE.crop((0, 200, 600, 201)),
    "one pixel": COFFEE.crop((300, 200, 301, 201)),
}


def across_then_down(image: Image.Image) -> np.ndarray:
    """Pillow's resize in torchvision's order."""
    across = image.resize((SIDE, image.height), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB"), int)


@pytest.mark.parametrize("image", PHOTOS.values(), ids=PHOTOS)
def test_pixels_are_pillows(image: Image.Image) -> None:
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    difference = np.abs(to_network_pixels(pixels, SIDE)[0] - across_then_down(image))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.01 * difference.size


@pytest.mark.parametrize("name", ["12 megapixels", "rocket", "cells"])
def test_pixels_of_a_jpeg_are_pillows(name: str) -> None:
    picture = encoded(PHOTOS[name], "JPEG", quality=90)
    with Image.open(io.BytesIO(picture)) as image:
        difference = np.abs(to_network_pixels(decode(picture), SIDE)[0] - across_then_down(image))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.01 * difference.size


def test_without_the_package_pillow_resizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert antialiased_resize.simd is not None
    monkeypatch.setattr(antialiased_resize, "simd", None)
    antialiased_resize._rounds_like_pillow.cache_clear()
    monkeypatch.setattr(antialiased_resize, "_by_simd", None)
    for image in (PHOTOS["astronaut"], PHOTOS["cells"]):
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        np.testing.assert_array_equal(to_network_pixels(pixels, SIDE)[0], across_then_down(image))
    antialiased_resize._rounds_like_pillow.cache_clear()


@pytest.mark.parametrize("length", [1200, 1600, 1920, 3000, 3024, 4000, 4032, 6000, 9000])
def test_usual_sizes_are_resized_by_the_package(length: int) -> None:
    assert antialiased_resize._rounds_like_pillow(length, SIDE)


def test_a_very_tall_picture_takes_no_more_memory_than_a_large_one() -> None:
    # Across first, it would take 3 GB.
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(Path(antialiased_resize.__file__).parent)!r})
        import numpy as np
        from antialiased_resize import resize
        pixels = np.repeat(np.arange(200, dtype=np.uint8), 5_000)[:, None, None]
        resized = resize(pixels, ({SIDE}, {SIDE}))
        assert np.abs(resized[:, 7, 0] - np.linspace(-0.5, 199.5, {SIDE})).max() < 1.5
        (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
        print(1024 * int(line.split()[1]))
    """
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert int(output) < 300e6


def test_strips_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.asarray(COFFEE)
    whole = resize(pixels, (200, 100))
    monkeypatch.setattr(antialiased_resize, "_STRIP_BYTES", 7 * pixels.shape[1] * 3)
    np.testing.assert_array_equal(resize(pixels, (200, 100)), whole)
