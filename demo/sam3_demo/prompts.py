"""Simulated prompts in the layout of `MaskDecoder`: a click or a box first, then clicks where the answer is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

BOX_LABELS, PADDING_LABEL = (2, 3), -1


@dataclass(frozen=True)
class Prompts:
    """Prompts for T targets, N points each, without the padding point.

    coords: fp32 [T, N, 2], (x, y) as fractions of the picture; labels: int32 [T, N], as `MaskDecoder` takes them.
    """

    coords: Tensor
    labels: Tensor

    @classmethod
    def clicks(cls, coords: Tensor) -> Prompts:
        """One positive click for each target; `coords` fp32 [T, 2]."""
        return cls(coords[:, None], torch.ones(len(coords), 1, dtype=torch.int32))

    @classmethod
    def boxes(cls, corners: Tensor) -> Prompts:
        """One box for each target; `corners` fp32 [T, 2, 2], top left and bottom right."""
        return cls(corners, torch.tensor(BOX_LABELS, dtype=torch.int32).expand(len(corners), 2))

    def add(self, coords: Tensor, labels: Tensor) -> Prompts:
        """Appends a click for each target; `coords` fp32 [T, 2], `labels` int32 [T]."""
        return Prompts(torch.cat([self.coords, coords[:, None]], 1), torch.cat([self.labels, labels[:, None]], 1))

    def padded(self) -> tuple[Tensor, Tensor]:
        """Coordinates [T, N + 1, 2] and labels [T, N + 1] with the padding point that Meta's predictor puts last."""
        return F.pad(self.coords, (0, 0, 0, 1)), F.pad(self.labels, (0, 1), value=PADDING_LABEL)


def corrective_clicks(logits: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws a random click among the wrong cells of each answer; cells deep inside are more likely.

    Args:
        logits: fp32 [T, h, w]; targets: fp32 [T, h, w], coverage of each cell.
        generator: source of randomness.
    Returns: coordinates fp32 [T, 2] and labels int32 [T]; if no cell is wrong, the click is inside the target.
    """
    height, width = logits.shape[1:]
    wrong = ((logits > 0) != (targets > 0.5)).float()
    nothing = wrong.flatten(1).sum(1) == 0
    wrong[nothing] = (targets[nothing] == targets[nothing].amax((1, 2), keepdim=True)).float()
    depth = F.avg_pool2d(wrong[:, None], 5, stride=1, padding=2)[:, 0]
    cells = torch.multinomial((wrong * depth**3).flatten(1), 1, generator=generator)[:, 0]
    labels = (targets.flatten(1).gather(1, cells[:, None])[:, 0] > 0.5) | nothing
    offsets = torch.rand(len(cells), 2, generator=generator)
    coords = torch.stack([cells % width, cells // width], 1) + offsets
    return coords / torch.tensor([width, height]), labels.int()


def deepest_click(answer: NDArray[np.bool_], target: NDArray[np.bool_]) -> tuple[NDArray[np.float32], int]:
    """The point furthest inside the largest wrong region, as in the usual evaluation of interactive segmentation.

    Args:
        answer, target: bool [H, W]; an empty answer gives the first click.
    Returns: (x, y) fp32 [2] as fractions of the picture, and the label: 1 if the point is in the target, else 0.
    """
    best, where, label = 0.0, (0, 0), 1
    for region, value in ((target & ~answer, 1), (answer & ~target, 0)):
        depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        if depth.max() > best:
            best, where, label = float(depth.max()), np.unravel_index(depth.argmax(), depth.shape), value
    return np.array([where[1] / target.shape[1], where[0] / target.shape[0]], np.float32), label
