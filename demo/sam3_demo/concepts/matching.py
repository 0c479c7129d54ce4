"""Which slot of the detector should find which object."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Weights of the costs, and of the losses of boxes: as in DETR.
SCORE, DISTANCE, GIOU = 2.0, 5.0, 2.0


def corners(boxes: Tensor) -> Tensor:
    """cx cy w h as x0 y0 x1 y1, [..., 4]."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centres - halves, centres + halves], dim=-1)


def generalised_iou(left: Tensor, right: Tensor) -> Tensor:
    """Generalised intersection over union of boxes cx cy w h, whose leading dimensions broadcast; [...]."""
    one, other = corners(left), corners(right)
    inside = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    around = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    overlap = inside.prod(-1)
    union = (left[..., 2:].prod(-1) + right[..., 2:].prod(-1) - overlap).clamp(min=1e-6)
    hull = around.prod(-1).clamp(min=1e-6)
    return overlap / union - (hull - union) / hull


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, wanted: Tensor, matching: Tensor, copies: int) -> tuple[Tensor, ...]:
    """Assigns slots to objects at the lowest cost, `copies` of them to each object.

    Several slots for one object in the early layers give more of them something to learn from; in the last layer it
    must be one, or an object would be found twice.

    Args:
        logits: fp32 [M, Q]; boxes: fp32 [M, Q, 4], cx cy w h, of the slots.
        wanted: fp32 [M, n, 4], of the objects; matching: bool [M, n], those that should be found.
    Returns: int64 [K] each: row, slot and object of every pair.
    """
    cost = DISTANCE * torch.cdist(boxes, wanted, p=1) - GIOU * generalised_iou(boxes[:, :, None], wanted[:, None])
    costs = (cost - SCORE * logits.sigmoid()[:, :, None]).numpy()
    rows, slots, objects = [], [], []
    for row in matching.any(1).nonzero()[:, 0].tolist():
        numbers = matching[row].nonzero()[:, 0].numpy().repeat(copies)
        found, places = linear_sum_assignment(costs[row][:, numbers])
        rows += [row] * len(found)
        slots += found.tolist()
        objects += numbers[places].tolist()
    return tuple(torch.tensor(values, dtype=torch.int64) for values in (rows, slots, objects))
