from __future__ import annotations

import io

import golden
import numpy as np
import pytest
from image_preprocess import ImageError, decode, to_network_pixels
from PIL import Image


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("photo", ["coffee", "rocket", "chelsea_tall"])
def test_pixels_are_those_of_metas_predictor(photo: str) -> None:
    with np.load(golden.FOLDER / "reference.npz") as reference:
        expected = reference[f"{photo}/pixels"]  # normalised, [3, 42, 42], every 8th pixel
    pixels = to_network_pixels(decode((golden.FOLDER / f"{photo}.png").read_bytes()), 336)
    assert pixels.shape == (1, 336, 336, 3)
    assert pixels.dtype == np.uint8
    normalised = (pixels[0, ::8, ::8].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    grey_levels = np.abs(normalised - expected) * 127.5
    assert grey_levels.max() <= 1.01


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    image = decode(encoded(Image.new(mode, (7, 5)), form))
    assert image.mode == "RGB"
    assert image.size == (7, 5)


def test_sixteen_bits_of_grey_become_the_upper_eight() -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    image = np.asarray(decode(encoded(Image.fromarray(grey))))
    np.testing.assert_array_equal(image, np.repeat((grey >> 8)[..., None], 3, axis=2))


def test_pixels_of_thirty_two_bits_are_refused() -> None:
    with pytest.raises(ImageError, match="its pixels have 32 bits"):
        decode(encoded(Image.new("F", (8, 8)), "TIFF"))


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees
    assert decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (8, 4)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "0 bytes"),
        (b"points=[[1, 2]]", "format of its 15 bytes is not known"),
        (encoded(Image.effect_noise((64, 64), 50))[:-500], "damaged or truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:500], "damaged or truncated"),
    ],
    ids=["empty", "text", "truncated PNG", "truncated JPEG"],
)
def test_an_unreadable_image_is_reported(data: bytes, fault: str) -> None:
    with pytest.raises(ImageError, match=fault):
        decode(data)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="too many pixels"):
        decode(data)
