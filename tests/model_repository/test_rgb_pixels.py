from __future__ import annotations

import io

import numpy as np
import pytest
from image_preprocess import decode
from pictures import encoded
from PIL import Image, ImageCms, ImageFile
from rgb_pixels import stretch, to_rgb_or_grey
from skimage import data

PHOTO = Image.fromarray(data.astronaut()[:300, 100:400]).resize((60, 50))


def rgb(encoded_picture: bytes) -> np.ndarray:
    """What `decode` returns, grey in three equal channels."""
    pixels = decode(encoded_picture)
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2)


def opened(encoded_picture: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(encoded_picture))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"),
        ("CMYK", "JPEG"), ("L", "JPEG"), ("CMYK", "TIFF"), ("LA", "TIFF"), ("P", "TIFF"),
        ("LA", "JPEG2000"), ("RGBA", "JPEG2000"), ("YCbCr", "JPEG2000"), ("1", "PPM"), ("P", "GIF"), ("1", "BMP"),
    ],
)  # fmt: skip
def test_modes_of_eight_bits_become_what_pillow_makes_of_them(mode: str, kind: str) -> None:
    picture = encoded(PHOTO.convert(mode), kind)
    image = rgb(picture)
    np.testing.assert_array_equal(image, np.asarray(opened(picture).convert("RGB")))
    distance = np.abs(image - np.asarray(PHOTO.convert(mode).convert("RGB"), float)).mean()
    assert distance < 6, "the picture itself"


def test_transparency_is_dropped_from_palettes_too() -> None:
    palette = PHOTO.convert("P")
    picture = encoded(palette, "PNG", transparency=bytes(range(256)))
    assert "transparency" in opened(picture).info
    np.testing.assert_array_equal(decode(picture), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(np.asarray(to_rgb_or_grey(palette.convert("PA"))), np.asarray(palette.convert("RGB")))


def test_lab_becomes_srgb() -> None:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    picture = ImageCms.applyTransform(PHOTO, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    image = decode(encoded(picture, "TIFF"))
    assert np.abs(image.astype(int) - np.asarray(PHOTO, int)).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_of_grey_become_the_upper_eight(kind: str) -> None:
    grey = np.linspace(0, 30_000, 64 * 48).reshape(48, 64).astype(np.uint16)  # not the whole range
    image = rgb(encoded(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(image, np.repeat((grey >> 8)[..., None], 3, axis=2))


def test_a_pgm_of_twelve_bits_is_scaled_to_its_own_maximum() -> None:
    grey = np.arange(4096, dtype=">u2").reshape(64, 64)
    image = decode(b"P5 64 64 4095\n" + grey.tobytes())[..., 0]
    assert (image.min(), image.max()) == (0, 255)
    assert np.abs(image - grey.astype(float) / 4095 * 255).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float32, "TIFF"), (np.float32, "PPM"), (np.int32, "TIFF")], ids=["F TIFF", "PFM", "I TIFF"]
)
def test_thirty_two_bits_are_stretched(dtype: type, kind: str) -> None:
    levels = np.asarray(PHOTO.convert("L"))
    levels = np.rint((levels - levels.min()) * (255 / np.ptp(levels))).astype(np.uint8)
    image = rgb(encoded(Image.fromarray(levels.astype(dtype) * 12 - 500), kind))
    np.testing.assert_array_equal(image, np.repeat(levels[..., None], 3, axis=2))


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_stretched_is_black() -> None:
    nan, inf = np.nan, np.inf
    cases = [
        ([[nan, -inf, inf, 2, 4, 3]], [[0, 0, 0, 0, 255, 128]]),
        ([[7, 7, nan]], [[0, 0, 0]]),
        ([[nan, inf]], [[0, 0]]),
        ([[-3.4e38, 0, 3.4e38]], [[0, 128, 255]]),  # their difference is more than float32 holds
    ]
    for values, expected in cases:
        np.testing.assert_array_equal(stretch(np.array(values, np.float32)), expected)
    whole = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    np.testing.assert_array_equal(stretch(whole), [[0, 128, 255]])
