"""Compares candidates whose order rounding has changed."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np

from sam3_export.spec import Arrays


def in_order_of(expected: Arrays, found: Arrays) -> Arrays:
    """An answer of the mask decoder with each object's candidates in the order of PyTorch's.

    Candidates are sorted by score. Two whose scores are nearly equal may change places by rounding, and then their
    masks differ wholly although both answers are right. So each object's candidates get the order in which its logits
    differ least. A wrong answer still shows: its scores, in that order, differ too.

    Args:
        expected, found: `MASK_LOGITS` [..., M, h, w] and `SCORES` [..., M]; other outputs are ignored.

    Returns: `found` itself if it has other outputs or other shapes, or is not sorted by score.
    """
    names = ("MASK_LOGITS", "SCORES")
    if any(name not in found or found[name].shape != expected[name].shape for name in names):
        return found
    scores = found["SCORES"]
    count = scores.shape[-1]
    if count == 1 or not (np.diff(scores) <= 0).all():
        return found
    logits, wanted = (answer["MASK_LOGITS"].reshape(scores.size // count, count, -1) for answer in (found, expected))
    orders = [list(order) for order in permutations(range(count))]
    best = np.array(
        [min(orders, key=partial(_distance, own, theirs)) for own, theirs in zip(logits, wanted, strict=True)]
    ).reshape(scores.shape)
    return {
        **found,
        "MASK_LOGITS": np.take_along_axis(found["MASK_LOGITS"], best[..., None, None], -3),
        "SCORES": np.take_along_axis(scores, best, -1),
    }


def _distance(found: np.ndarray, expected: np.ndarray, order: list[int]) -> float:
    return float(np.abs(found[order] - expected).max())
