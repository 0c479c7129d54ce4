"""Traces the outlines of a mask along the edges of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Ring = list[list[int]]


@dataclass(frozen=True)
class Region:
    """A connected region: pixels that touch only at a corner belong to different regions.

    A ring lists its corners (x, y), at least four; the first one is not repeated. Corners are corners of pixels:
    pixel (x, y) is the square from (x, y) to (x + 1, y + 1). No ring crosses or touches itself.

    Attributes:
        exterior: clockwise as seen in the picture.
        holes: counter-clockwise.
        area: what the exterior encloses, holes included, in pixels.
    """

    exterior: Ring
    holes: list[Ring]
    area: int


def trace(mask: np.ndarray) -> list[Region]:
    """Returns the regions of bool [H, W], largest first. Their rings enclose exactly the mask's pixels."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return []
    pixels = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    labels = np.pad(cv2.connectedComponents(pixels, connectivity=4)[1], 1)
    return _regions(_Edges.between(labels), offset=(x, y))


@dataclass(frozen=True)
class _Edges:
    """The horizontal edges of all regions, each with its region to the right of its direction.

    Attributes:
        starts, ends: the corners (x, y), int64 [N, 2].
        followers: the edge that continues each one's ring, after the vertical edge between the two; int64 [N].
        labels: the region of each, int32 [N].
    """

    starts: np.ndarray
    ends: np.ndarray
    followers: np.ndarray
    labels: np.ndarray

    @classmethod
    def between(cls, labels: np.ndarray) -> _Edges:
        """Finds the edges of regions: int32 [H + 2, W + 2] with a margin of zeros around; zero is the background."""
        x, y, is_second, turns_in_order = _corners(labels)
        # In reading order, each two corners are the ends of a horizontal edge; column by column, of a vertical one.
        columns = np.lexsort((is_second ^ ~turns_in_order, y, x))
        across = np.empty_like(columns)
        across[columns[0::2]], across[columns[1::2]] = columns[1::2], columns[0::2]
        below = labels[y[0::2] + 1, x[0::2] + 1]
        above = labels[y[0::2], x[0::2] + 1]
        starts = np.arange(0, len(x), 2) + (below == 0)
        corners = np.stack((x, y), axis=1)
        return cls(corners[starts], corners[starts ^ 1], across[starts ^ 1] // 2, np.where(below > 0, below, above))


def _corners(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Finds the corners in reading order. A point where only diagonal pixels are alike is two corners.

    Returns:
        x, y; whether it is the second corner at its point, with the edge on the right; and, at such a point, whether
        the corner with the edge on the left also has the upper one. bool [N], true elsewhere.
    """
    inside = labels > 0
    left = inside[:-1, :-1] ^ inside[1:, :-1]
    right = inside[:-1, 1:] ^ inside[1:, 1:]
    crossed = left & right & (inside[:-1, :-1] ^ inside[:-1, 1:])
    y, x = np.divmod(np.flatnonzero((left ^ right) | crossed), left.shape[1])
    is_double = crossed[y, x]
    x, y, is_double = (np.repeat(values, 1 + is_double) for values in (x, y, is_double))
    is_second = np.zeros(len(x), bool)
    is_second[1:] = is_double[1:] & (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    top_left, bottom_right = labels[y, x], labels[y + 1, x + 1]
    top_right, bottom_left = labels[y, x + 1], labels[y + 1, x]
    # Each ring turns around one of the region's two pixels. If both are of one region, the other two pixels are a hole
    # and what is around it, or two holes: then around one of those. So no ring meets a point twice.
    is_one_region = (top_left == bottom_right) & (top_right == bottom_left)
    return x, y, is_second, ~is_double | ((top_left > 0) ^ is_one_region)


def _regions(edges: _Edges, offset: tuple[int, int]) -> list[Region]:
    order, bounds = _walk(edges.followers.tolist())
    starts, ends = edges.starts[order], edges.ends[order]
    corners = (np.stack((starts, ends), axis=1).reshape(-1, 2) + offset).tolist()
    # The area between each edge and the top of the picture: its sum around a ring is negative if the ring is clockwise.
    areas = np.add.reduceat(starts[:, 1] * (ends[:, 0] - starts[:, 0]), bounds[:-1]).tolist()
    exteriors: dict[int, tuple[Ring, int]] = {}
    holes: dict[int, list[Ring]] = {}
    for first, last, label, area in zip(
        bounds[:-1], bounds[1:], edges.labels[order][bounds[:-1]].tolist(), areas, strict=True
    ):
        ring = corners[2 * first : 2 * last]
        if area < 0:
            exteriors[label] = (ring, -area)
        else:
            holes.setdefault(label, []).append(ring)
    found = [Region(ring, holes.get(label, []), area) for label, (ring, area) in exteriors.items()]
    return sorted(found, key=lambda region: -region.area)


def _walk(followers: list[int]) -> tuple[list[int], list[int]]:
    """Returns all edges, ring after ring, and where each ring begins, with the end of the last one."""
    order: list[int] = []
    bounds = [0]
    is_left = bytearray(b"\1") * len(followers)
    for first in range(len(followers)):
        edge = first
        while is_left[edge]:
            is_left[edge] = 0
            order.append(edge)
            edge = followers[edge]
        if len(order) > bounds[-1]:
            bounds.append(len(order))
    return order, bounds
