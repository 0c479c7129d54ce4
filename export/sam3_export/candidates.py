"""Compares answers whose order rounding has changed."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np

from sam3_export.spec import Arrays

# Values of an instance's mask logits, along each axis, by which it is recognised.
_SAMPLES = 16


def in_order_of(expected: Arrays, found: Arrays) -> Arrays:
    """An answer with the candidates of each object, or the instances of each image, in the order of PyTorch's.

    They are sorted by score. Two whose scores are nearly equal may change places by rounding, and then their masks
    differ wholly although both answers are right. So they get the order in which they differ least. A wrong answer
    still shows: its scores, in that order, differ too.

    Args:
        expected, found: of the mask decoder `MASK_LOGITS` [..., M, h, w] and `SCORES` [..., M]; of the concept detector
            `MASK_LOGITS` [B, Q, h, w], `SCORES` [B, Q] and `BOXES` [B, Q, 4]. Other outputs are ignored.

    Returns: `found` itself if it has other outputs or other shapes, or is not sorted by score.
    """
    names = ("MASK_LOGITS", "SCORES", *(["BOXES"] if "BOXES" in expected else []))
    if any(name not in found or found[name].shape != expected[name].shape for name in names):
        return found
    scores = found["SCORES"]
    count = scores.shape[-1]
    if count == 1 or found["MASK_LOGITS"].shape[: scores.ndim] != scores.shape or not (np.diff(scores) <= 0).all():
        return found
    best = (_instances if "BOXES" in expected else _candidates)(expected, found)
    return {**found, **{name: _taken(found[name], best) for name in names}}


def _taken(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The values [..., M, ...] in an order [..., M]."""
    more = [1] * (values.ndim - order.ndim)
    return np.take_along_axis(values, order.reshape(*order.shape, *more), order.ndim - 1)


def _candidates(expected: Arrays, found: Arrays) -> np.ndarray:
    """The order of each object's few candidates: the best of all."""
    scores = found["SCORES"]
    count = scores.shape[-1]
    logits, wanted = (answer["MASK_LOGITS"].reshape(scores.size // count, count, -1) for answer in (found, expected))
    orders = [list(order) for order in permutations(range(count))]
    return np.array(
        [min(orders, key=partial(_distance, own, theirs)) for own, theirs in zip(logits, wanted, strict=True)]
    ).reshape(scores.shape)


def _distance(found: np.ndarray, expected: np.ndarray, order: list[int]) -> float:
    return float(np.abs(found[order] - expected).max())


def _instances(expected: Arrays, found: Arrays) -> np.ndarray:
    """The order of each image's many instances: the nearest pair first."""
    marks, wanted = _marks(found, expected), _marks(expected, expected)
    order = np.zeros(found["SCORES"].shape, np.int64)
    for own, theirs, row in zip(marks, wanted, order, strict=True):
        distances = np.abs(theirs[:, None] - own[None]).max(axis=2)
        for _ in row:
            place, taken = np.unravel_index(distances.argmin(), distances.shape)
            row[place] = taken
            distances[place], distances[:, taken] = np.inf, np.inf
    return order


def _marks(answer: Arrays, scale: Arrays) -> np.ndarray:
    """What distinguishes each instance: score, box, and some of its mask logits as fractions of their scale."""
    step = -(-answer["MASK_LOGITS"].shape[-1] // _SAMPLES)
    logits = answer["MASK_LOGITS"][..., ::step, ::step].astype(np.float32) / max(
        1.0, np.abs(scale["MASK_LOGITS"]).max()
    )
    return np.concatenate([answer["SCORES"][..., None], answer["BOXES"], logits.reshape(*logits.shape[:2], -1)], axis=2)
