"""The images and clicks that every measured system receives."""

from __future__ import annotations

import functools
import hashlib
import io
import random
import struct
import uuid
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks import PROJECT

# Width and height of every image, in pixels.
SIDE = 1024
_PHOTOS = ("coffee.png", "rocket.png", "chelsea_tall.png")
_JPEG_QUALITY = 90
# In a trace, the image of each rank gets clicks in proportion to 1 / rank ** exponent.
ZIPF_EXPONENT = 1.1
DETECTIONS = 20


@dataclass(frozen=True)
class Click:
    """One foreground point (x, y), in pixels, on an image file."""

    image: bytes
    point: tuple[int, int]

    @functools.cached_property
    def image_id(self) -> str:
        """The server's id of the image: sha256 of the file."""
        return hashlib.sha256(self.image).hexdigest()


def fresh_images(count: int) -> list[bytes]:
    """JPEG files of `SIDE` x `SIDE` that no server has seen: photos, turned and mirrored, each with its own comment.

    The comment alone makes a file new: two files may show the same picture, but the encoder must run for both.
    """
    photos = _photos()
    return [_with_comment(photos[number % len(photos)], uuid.uuid4().hex.encode()) for number in range(count)]


def clicks_on(images: list[bytes], each: int) -> list[Click]:
    """`each` clicks on every image, in turns, at seeded places away from the edges."""
    rng = random.Random(0)
    return [Click(image, _place(rng)) for _ in range(each) for image in images]


def detections() -> list[tuple[float, float, float, float]]:
    """Seeded boxes on an image, x1, y1, x2, y2 in pixels, as a detector finds them: some overhang its edges."""
    rng = random.Random(0)
    sides = [(rng.uniform(0.1, 0.4) * SIDE, rng.uniform(0.1, 0.4) * SIDE) for _ in range(DETECTIONS)]
    corners = [(rng.uniform(-0.05, 0.75) * SIDE, rng.uniform(-0.05, 0.75) * SIDE) for _ in sides]
    return [(x, y, x + width, y + height) for (x, y), (width, height) in zip(corners, sides, strict=True)]


def zipf_trace(images: list[bytes], length: int) -> list[Click]:
    """Seeded clicks, most of them on a few images (`ZIPF_EXPONENT`)."""
    rng = random.Random(0)
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(images) + 1)]
    return [Click(image, _place(rng)) for image in rng.choices(images, weights, k=length)]


def noise_png(side: int) -> bytes:
    """A PNG of noise, the same each time: 3 * side * side bytes, and a few more."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def _photos() -> tuple[bytes, ...]:
    """Every photo of the reference cases in its eight orientations."""
    turns = [None, *Image.Transpose]
    files = []
    for turn in turns:
        for name in _PHOTOS:
            with Image.open(PROJECT / "tests" / "data" / "golden" / name) as photo:
                squared = photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            (squared if turn is None else squared.transpose(turn)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
            files.append(buffer.getvalue())
    return tuple(files)


def _with_comment(jpeg: bytes, comment: bytes) -> bytes:
    start, rest = jpeg[:2], jpeg[2:]  # the start marker stays first
    return start + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + rest


def _place(rng: random.Random) -> tuple[int, int]:
    margin = SIDE // 16
    return rng.randrange(margin, SIDE - margin), rng.randrange(margin, SIDE - margin)
