"""Selects the instances of a concept, as Meta's processor does. Independent of Triton."""

from __future__ import annotations

import numpy as np


def select(
    scores: np.ndarray, logits: np.ndarray, threshold: float, max_instances: int, nms_iou: float
) -> tuple[np.ndarray, int]:
    """The ranks of the instances to return, int [K], best first, and how many instances are above the threshold.

    Args:
        scores: of all queries, float32 [Q], best first.
        logits: of the masks of the best, float [K, h, w].
        threshold: instances have a greater score.
        max_instances: how many of the best to take.
        nms_iou: of these, one is dropped if its mask's IoU with a better one that was not dropped is greater; 1: none.
    """
    total = int(np.count_nonzero(scores > threshold))
    count = min(total, max_instances, len(logits))
    if nms_iou >= 1 or count < 2:
        return np.arange(count), total
    return _distinct(logits[:count] > 0, nms_iou), total


def to_pixels(boxes: np.ndarray, original_size: tuple[int, int]) -> np.ndarray:
    """Boxes float32 [K, 4] as (x0, y0, x1, y1) in pixels, not clipped.

    Args:
        boxes: float32 [K, 4] as (centre x, centre y, width, height) in fractions of the image.
        original_size: (height, width) of the image.
    """
    height, width = original_size
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=1)
    return corners * np.array([width, height, width, height], np.float32)


def _distinct(masks: np.ndarray, iou: float) -> np.ndarray:
    """The indices of masks bool [K, h, w] that are left when duplicates of better ones are dropped.

    Compares the masks as the network gives them, not those of the original size: a hundredth of the work.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common = flat @ flat.T
    areas = common.diagonal()
    overlaps = common > iou * (areas[:, None] + areas[None, :] - common)
    kept: list[int] = []
    for index in range(len(masks)):
        if not overlaps[index, kept].any():
            kept.append(index)
    return np.array(kept)
