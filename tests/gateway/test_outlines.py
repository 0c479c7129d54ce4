from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco
from sam3_gateway.outlines import Region, Ring, trace
from skimage import draw


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.random(shape) < rng.random()


def blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    field = cv2.GaussianBlur(rng.random(shape).astype(np.float32), (0, 0), float(rng.uniform(0.7, 6)))
    return field > np.quantile(field, rng.random())


def lines(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(1, 6)):
        ends = [tuple(int(rng.integers(0, side)) for side in shape[::-1]) for _ in range(2)]
        cv2.line(drawn, *ends, 1, lineType=int(rng.choice([4, 8])))
    return drawn > 0


def specks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 4)):
        mask[rng.integers(0, shape[0]), rng.integers(0, shape[1])] = True
    return mask


def checkerboard(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(shape) // rng.integers(1, 4)
    return (x + y) % 2 == 0


def frame(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """The picture's border, and specks in its hole that may touch it."""
    mask = specks(rng, shape)
    mask[[0, -1]] = mask[:, [0, -1]] = True
    return mask


def full(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool)


def empty(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.zeros(shape, bool)


KINDS = (noise, blobs, lines, specks, checkerboard, frame, full, empty)
SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60))


def rings(regions: list[Region]) -> Iterator[Ring]:
    for region in regions:
        yield region.exterior
        yield from region.holes


def scanned(regions: list[Region], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels whose centres an odd number of vertical edges has to its left."""
    inside = np.zeros(shape, bool)
    for ring in rings(regions):
        for (x, y), (next_x, next_y) in pairwise([*ring, ring[0]]):
            if x == next_x:
                inside[min(y, next_y) : max(y, next_y), x:] ^= True
    return inside


def drawn_by_coco(regions: list[Region], shape: tuple[int, ...]) -> np.ndarray:
    def draw_ring(ring: Ring) -> np.ndarray:
        return coco.decode(coco.frPyObjects([np.ravel(ring).tolist()], *shape))[..., 0] > 0

    return drawn(regions, shape, draw_ring)


def drawn_by_skimage(regions: list[Region], shape: tuple[int, ...]) -> np.ndarray:
    return drawn(regions, shape, lambda ring: draw.polygon2mask(shape, np.array(ring)[:, ::-1] - 0.5))


def drawn_by_shapely(regions: list[Region], shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.indices(shape) + 0.5
    return shapely.contains_xy(multipolygon(regions), x, y)


def drawn(regions: list[Region], shape: tuple[int, ...], draw_ring) -> np.ndarray:
    total = np.zeros(shape, bool)
    for region in regions:
        pixels = draw_ring(region.exterior)
        for hole in region.holes:
            pixels &= ~draw_ring(hole)
        total |= pixels
    return total


def multipolygon(regions: list[Region]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.Polygon(region.exterior, region.holes) for region in regions])


def check(mask: np.ndarray) -> None:
    height, width = mask.shape
    regions = trace(mask)
    for ring in rings(regions):
        assert len(set(map(tuple, ring))) == len(ring) >= 4
        for (x, y), (next_x, next_y) in pairwise([*ring, ring[0]]):
            assert 0 <= x <= width
            assert 0 <= y <= height
            assert (x == next_x) != (y == next_y), f"{ring} is not along pixels"
    np.testing.assert_array_equal(scanned(regions, mask.shape), mask)
    shape = multipolygon(regions)
    assert shape.is_valid, shapely.is_valid_reason(shape)
    assert shape.area == mask.sum()
    areas = [region.area for region in regions]
    assert areas == sorted(areas, reverse=True)
    assert areas == [shapely.Polygon(region.exterior).area for region in regions]
    # The signed area is positive where y points down and the ring runs clockwise.
    for region in regions:
        assert cv2.contourArea(np.array(region.exterior, np.int32), oriented=True) > 0
        assert all(cv2.contourArea(np.array(hole, np.int32), oriented=True) < 0 for hole in region.holes)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KINDS), SHAPES, st.integers(0, 2**32 - 1))
def test_rings_are_simple_and_enclose_the_mask(kind, shape: tuple[int, int], seed: int) -> None:
    check(kind(np.random.default_rng(seed), shape))


@settings(max_examples=600, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=7)))
def test_the_same_of_any_small_mask(mask: np.ndarray) -> None:
    check(mask)


@pytest.mark.parametrize("draw_again", [drawn_by_coco, drawn_by_skimage, drawn_by_shapely])
@pytest.mark.parametrize("kind", KINDS)
def test_tools_draw_the_mask_again(draw_again, kind) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (13, 8), (40, 60)):
        mask = kind(rng, shape)
        np.testing.assert_array_equal(draw_again(trace(mask), shape), mask)


def test_a_pixel_is_a_square() -> None:
    mask = np.zeros((5, 9), bool)
    mask[2, 7] = True
    assert trace(mask) == [Region([[7, 2], [8, 2], [8, 3], [7, 3]], [], 1)]


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    assert [region.exterior for region in trace(np.eye(2, dtype=bool))] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_a_hole_that_touches_the_outside_at_a_corner_is_a_hole() -> None:
    mask = np.ones((3, 3), bool)
    mask[0, 0] = mask[1, 1] = False
    (region,) = trace(mask)
    assert [sorted(hole) for hole in region.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    assert region.area == 8


def test_the_largest_region_with_its_hole_comes_first_and_the_island_is_a_region() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    mask[8:22, 8:22] = False
    mask[12:16, 12:16] = True  # an island in the hole
    regions = trace(mask)
    assert [(len(region.holes), region.area) for region in regions] == [(1, 400), (0, 16)]


def test_a_part_of_a_larger_array() -> None:
    mask = np.zeros((20, 40), bool)
    mask[4:9, 6:30] = True
    np.testing.assert_array_equal(scanned(trace(mask[::2, 3:]), (10, 37)), mask[::2, 3:])
