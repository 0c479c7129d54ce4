"""What makes an answer right: found, missed and wrongly found instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_IOU = 0.5


@dataclass
class Tally:
    """Counts of instances: right ones, and of answers and objects altogether."""

    right: int = 0
    found: int = 0
    wanted: int = 0

    def add(self, right: int, found: int, wanted: int) -> None:
        """Adds the counts of one answer."""
        self.right += right
        self.found += found
        self.wanted += wanted

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / max(1, self.found + self.wanted)


def pairs(masks: NDArray[np.bool_], targets: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs answers with objects of which they cover enough, each once, the best-scored answer first.

    Args:
        masks: bool [K, S, S], best first; targets: bool [n, S, S].
    Returns: pairs of an answer's number and an object's.
    """
    if not len(masks) or not len(targets):
        return []
    flat, true = masks.reshape(len(masks), -1).astype(np.float32), targets.reshape(len(targets), -1).astype(np.float32)
    overlap = flat @ true.T
    iou = overlap / np.maximum(1, flat.sum(1)[:, None] + true.sum(1) - overlap)
    matched = []
    for answer in range(len(masks)):
        best = int(iou[answer].argmax())
        if iou[answer, best] >= LEAST_IOU:
            matched.append((answer, best))
            iou[:, best] = 0
    return matched
