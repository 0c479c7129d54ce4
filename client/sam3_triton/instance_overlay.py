"""Draws the instances of concepts over a photo."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam3_triton.instances import Instances

_OPACITY = 0.5
# Hues a golden section apart: however many there are, neighbours differ.
_GOLDEN_SECTION = 0.618034


def overlay_instances(image: Image.Image, found: Sequence[Instances]) -> Image.Image:
    """Returns the image with every instance in its own colour: the mask tinted and outlined, its box, name and score.

    Args:
        found: of one or several concepts, with masks. The best instances are drawn last, on top. The name is the
            prompt's text, or "example" if it had only boxes.
    """
    masks = [mask for each in found for mask in each.masks]
    boxes = [box for each in found for box in each.boxes.tolist()]
    scores = [score for each in found for score in each.scores.tolist()]
    names = [each.text or "example" for each in found for _ in each.scores]
    order = sorted(range(len(scores)), key=scores.__getitem__)
    colours = [_colour(number) for number in range(len(scores))]
    pixels = np.array(image.convert("RGB"), np.float32)
    for index in order:
        _tint(pixels, masks[index], colours[index])
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    unit = max(picture.size) / 100
    font = ImageFont.load_default(max(11, 2 * unit))
    for index in order:
        draw.rectangle(boxes[index], outline=colours[index], width=max(2, round(unit / 3)))
    for index in order:  # no box hides a label
        _label(draw, f"{names[index]} {scores[index]:.2f}", boxes[index], colours[index], font)
    return picture


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((0.58 + number * _GOLDEN_SECTION) % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _tint(pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Tints float32 [H, W, 3] where the mask is, and draws its outline, in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, part = np.pad(mask[window], 1), pixels[window]
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    own = inside[1:-1, 1:-1]
    part[own] += _OPACITY * (np.array(colour, np.float32) - part[own])
    part[own & ~inner] = colour


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Sequence[float],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Writes a text on the box's upper left corner, within the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right + left, bottom + top
    x = min(max(0, box[0]), draw.im.size[0] - width)
    y = min(max(0, box[1] - height), draw.im.size[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x, y), text, fill=(0, 0, 0), font=font)
