"""Converts masks to the formats of annotation tools."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco


def to_coco_rle(mask: np.ndarray) -> dict[str, Any]:
    """Converts bool [H, W] to COCO's compressed run-length encoding: `size` [H, W] and `counts`, a string."""
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def to_polygons(mask: np.ndarray) -> list[dict[str, Any]]:
    """Converts bool [H, W] to polygons, one for each connected region, largest first.

    Each has an `exterior` [[x, y], ...] and `holes`, a list of such rings. Corners are pixels of the region: an
    exterior follows its outermost pixels, a hole follows its pixels around the hole.
    """
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons: dict[int, dict[str, Any]] = {}
    for index, contour in enumerate(contours):
        parent = int(hierarchy[0][index][3])
        ring = contour[:, 0].tolist()
        if parent < 0:
            polygons[index] = {"exterior": ring, "holes": []}
        else:
            polygons[parent]["holes"].append(ring)
    return sorted(polygons.values(), key=lambda polygon: -cv2.contourArea(np.array(polygon["exterior"])))
