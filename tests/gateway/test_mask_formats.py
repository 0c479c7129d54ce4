from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from sam3_gateway.mask_formats import to_coco_rle, to_polygons
from sam3_gateway.outlines import trace


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.random((height, width)) < share for height, width, share in ((7, 9, 0.5), (40, 30, 0.8), (1, 5, 0.6))]
    for _ in range(10):
        noise = cv2.GaussianBlur(rng.random((60, 90)).astype(np.float32), (0, 0), 4)
        found.append(noise > np.median(noise))
    ring = np.zeros((30, 30), bool)
    ring[5:25, 5:25] = True
    ring[8:22, 8:22] = False
    ring[12:16, 12:16] = True  # an island in the hole
    return [*found, ring, np.zeros((4, 6), bool), np.ones((4, 6), bool)]


@pytest.mark.parametrize("mask", masks())
def test_run_lengths_are_cocos(mask: np.ndarray) -> None:
    rle = to_coco_rle(mask)
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(coco.decode(rle) > 0, mask)


def test_polygons_are_the_outlines_of_regions() -> None:
    ring = masks()[13]
    assert to_polygons(ring) == [{"exterior": one.exterior, "holes": one.holes} for one in trace(ring)]
    assert [len(polygon["holes"]) for polygon in to_polygons(ring)] == [1, 0]
