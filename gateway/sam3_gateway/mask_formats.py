"""Converts masks to the formats of annotation tools."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco

from sam3_gateway.outlines import trace


def to_coco_rle(mask: np.ndarray) -> dict[str, Any]:
    """Converts bool [H, W] to COCO's compressed run-length encoding: `size` [H, W] and `counts`, a string."""
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def to_polygons(mask: np.ndarray) -> list[dict[str, Any]]:
    """Converts bool [H, W] to polygons, one for each connected region, largest first.

    Each has an `exterior` [[x, y], ...] and `holes`, a list of such rings: see `outlines.Region`.
    """
    return [{"exterior": region.exterior, "holes": region.holes} for region in trace(mask)]
