"""Damaged files of every accepted format: a picture or a clear error, soon, in the gateway and in Triton."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from image_preprocess import ImageError, decode
from pictures import HEIC, TURNED_HEIC, damaged, encoded
from PIL import Image
from sam3_gateway import picture_formats
from sam3_gateway.uploads import inspect
from sam3_triton import InvalidInputError

FORMATS = picture_formats.parse(picture_formats.DEFAULT)
CASES = 400
# Small, so that the pictures that damaged headers declare are decoded soon.
MAX_PIXELS = 1_000_000
NOISE = Image.effect_noise((64, 48), 60)
TIFFS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")


def samples(kind: str) -> list[bytes]:
    if kind == "HEIF":
        return [HEIC.read_bytes(), TURNED_HEIC.read_bytes()]
    pictures = [encoded(NOISE.convert(mode), kind) for mode in ("RGB", "L")]
    if kind == "TIFF":
        pictures += [encoded(NOISE.convert("RGB"), kind, compression=name) for name in TIFFS]
        pictures += [encoded(NOISE.convert(mode), kind) for mode in ("F", "I", "CMYK", "P")]
    if kind == "JPEG2000":
        pictures += [encoded(NOISE, kind, no_jp2=True, tile_size=(16, 16)), encoded(NOISE.convert("RGBA"), kind)]
    if kind == "PPM":
        pictures += [
            b"P3 2 2 9 " + b"1 2 3 " * 4,
            b"P5 8 8 4095 " + bytes(range(128)),
            encoded(NOISE.convert("F"), kind),
        ]
    return pictures


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the damage
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_a_picture_or_an_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", MAX_PIXELS // 2)  # Pillow refuses more than twice as many
    rng = random.Random(0)
    pictures = samples(kind)
    outcomes: Counter[str] = Counter()
    for _ in range(CASES):
        data = damaged(rng, rng.choice(pictures))
        started = time.process_time()
        try:
            inspect(data, MAX_PIXELS, FORMATS)
            outcomes["inspected"] += 1
        except InvalidInputError:
            outcomes["refused by the gateway"] += 1
        try:
            assert decode(data, FORMATS).shape[2] in (1, 3)
            outcomes["decoded"] += 1
        except ImageError:
            outcomes["refused by Triton"] += 1
        assert time.process_time() - started < 5
    assert len(outcomes) == 4, outcomes
