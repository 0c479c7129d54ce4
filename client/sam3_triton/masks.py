"""Saves and draws masks, and provides a drop-in replacement for an application's `get_mask_from_sam`."""

from __future__ import annotations

import io
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from sam3_triton.client import DEFAULT_URL, Sam3Client
from sam3_triton.errors import InvalidInputError, Sam3Error

_log = logging.getLogger(__name__)
_MASK_COLOUR = (30, 144, 255)
_POINT_COLOURS = {1: (60, 200, 80), 0: (230, 60, 50)}
_MASK_OPACITY = 0.55


def save_mask(mask: bytes | np.ndarray, path: str | Path) -> Path:
    """Writes a mask as an 8-bit grey PNG, 0 and 255, and returns its absolute path.

    Args:
        mask: a PNG file, or bool [H, W].
    """
    path = Path(path).absolute()
    if isinstance(mask, np.ndarray):
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path, "PNG")
    else:
        path.write_bytes(mask)
    return path


def overlay(
    image: Image.Image,
    mask: np.ndarray,
    points: Sequence[Sequence[float]] = (),
    labels: Sequence[int] | None = None,
    box: Sequence[float] | None = None,
) -> Image.Image:
    """Returns the image with the mask (bool [H, W]) tinted and outlined, and the prompt drawn over it."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    tint = np.where(mask[..., None], _MASK_OPACITY, 0.0)
    mixed = pixels * (1 - tint) + np.array(_MASK_COLOUR, np.float32) * tint
    inner = mask.copy()
    inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    mixed[mask & ~inner] = 255
    picture = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    radius = max(4, round(max(picture.size) / 110))
    if box is not None:
        draw.rectangle([*box], outline=(255, 255, 255), width=max(2, radius // 3))
    for (x, y), label in zip(points, labels or [1] * len(points), strict=True):
        circle = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(circle, fill=_POINT_COLOURS[label], outline=(255, 255, 255), width=max(2, radius // 3))
    return picture


def get_mask_from_sam(
    image_path: str | Path,
    points: Sequence[Sequence[float]],
    labels: Sequence[int] | None = None,
    url: str | None = None,
) -> str | None:
    """Saves the best mask as `{basename}_mask_{6 hex}.png` beside the image and returns its absolute path.

    Args:
        url: Triton's address. Default: the environment variable SAM3_URL, else localhost:8011.

    Returns: the path, or None on failure; the reason is logged.
    """
    source = Path(image_path)
    try:
        with Sam3Client(url or os.environ.get("SAM3_URL", DEFAULT_URL)) as client:
            prediction = client.predict(source, points=points, labels=labels, logits=False)
        target = source.with_name(f"{source.stem}_mask_{secrets.token_hex(3)}.png")
        return str(save_mask(prediction.mask_pngs[0], target))
    except (Sam3Error, OSError) as error:
        _log.error("no mask for %s: %s", source, error)
        return None


def open_image(data: bytes) -> Image.Image:
    """Opens an image file as RGB, as the server does (docs/pictures.md).

    Raises:
        InvalidInputError: Pillow cannot open it, for example because it is HEIC.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise InvalidInputError("Pillow cannot open the photo to draw over it") from error
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow's own conversion clips to white
    elif image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
        levels = np.where(np.isfinite(values), values - low, 0) * (255 / (high - low) if low < high else 0)
        image = Image.fromarray(np.rint(levels).astype(np.uint8))
    return image.convert("RGB")
