from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from sam3_gateway.mask_formats import to_coco_rle, to_polygons


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


def drawn(polygons: list[dict], shape: tuple[int, ...]) -> np.ndarray:
    """Draws the polygons: regions without their holes. The rings of holes belong to the region."""
    total = np.zeros(shape, np.uint8)
    for polygon in polygons:
        region = np.zeros(shape, np.uint8)
        cv2.fillPoly(region, [np.array(polygon["exterior"])], 1)
        holes = [np.array(hole) for hole in polygon["holes"]]
        cv2.fillPoly(region, holes, 0)
        cv2.polylines(region, holes, True, 1)
        total |= region
    return total > 0


@pytest.mark.parametrize("mask", masks())
def test_run_lengths_are_cocos(mask: np.ndarray) -> None:
    rle = to_coco_rle(mask)
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(coco.decode(rle) > 0, mask)


@pytest.mark.parametrize("mask", masks())
def test_polygons_draw_the_mask(mask: np.ndarray) -> None:
    polygons = to_polygons(mask)
    np.testing.assert_array_equal(drawn(polygons, mask.shape), mask)


def test_the_largest_region_with_its_hole_comes_first_and_the_island_is_a_region() -> None:
    polygons = to_polygons(masks()[13])
    assert [len(polygon["holes"]) for polygon in polygons] == [1, 0]
    assert [5, 5] in polygons[0]["exterior"]
    assert [12, 12] in polygons[1]["exterior"]
