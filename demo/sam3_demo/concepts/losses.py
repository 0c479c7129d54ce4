"""Training losses of the concept half."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sam3_demo.concepts.matching import DISTANCE, GIOU, SCORE, corners, generalised_iou, match
from sam3_demo.concepts.network import Answers
from sam3_demo.concepts.samples import Batch

# Slots for each object in each decoder layer; see `matching.match`.
COPIES = (3, 2, 1)
_FOCUS = 1.5  # exponent of the focal loss: slots that are surely empty hardly count
_FOUND = 3.0  # weight of a slot that should find something, of which there are few
_PRESENCE, _MATCH, _CELLS, _EXTENT, _MEANING = 1.0, 4.0, 0.5, 2.0, 0.5


def loss(answers: Answers, batch: Batch) -> tuple[Tensor, dict[str, float], tuple[Tensor, ...]]:
    """The loss without that of masks, its parts for the log, and the pairs of the last layer from `match`."""
    several = len(batch.tokens) // len(batch.features)
    wanted = batch.boxes.repeat_interleave(several, 0)
    count = batch.matching.sum().clamp(min=1)
    total, scores, giou = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for logits, boxes, copies in zip(answers.logits, answers.boxes, COPIES, strict=True):
        pairs = match(logits.detach(), boxes.detach(), wanted, batch.matching, copies)
        rows, slots, objects = pairs
        scores = _score_loss(logits, rows, slots) / (count * copies)
        found, true = boxes[rows, slots], wanted[rows, objects]
        distance = (found - true).abs().sum() / (count * copies)
        giou = (1 - generalised_iou(found, true)).sum() / (count * copies)
        total = total + SCORE * scores + DISTANCE * distance + GIOU * giou
    there = batch.matching.any(1).float()
    presence = F.binary_cross_entropy_with_logits(answers.presence, there)
    dense = _match_loss(answers, batch, several)
    cells = cells_loss(answers.cells, answers.extents, batch.cells, batch.attributes, batch.boxes)
    meanings = zip(answers.meanings, batch.meanings.T, strict=True)
    meaning = torch.stack([F.cross_entropy(logits, values) for logits, values in meanings]).sum()
    parts = {"score": scores, "giou": giou, "presence": presence, "match": dense, "cells": cells, "meaning": meaning}
    total = total / len(COPIES) + _PRESENCE * presence + _MATCH * dense + cells + _MEANING * meaning
    return total, {name: float(part.detach()) for name, part in parts.items()}, pairs


def _score_loss(logits: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
    target = torch.zeros_like(logits)
    target[rows, slots] = 1
    weight = (logits.detach().sigmoid() - target).abs() ** _FOCUS * (1 + (_FOUND - 1) * target)
    return (weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum()


def _match_loss(answers: Answers, batch: Batch, several: int) -> Tensor:
    """Whether the object in each cell should be found."""
    cells = batch.cells.repeat_interleave(several, 0)
    matching = F.pad(batch.matching, (1, 0))  # number 0 is the background
    target = matching.gather(1, cells.flatten(1)).float()
    weight = 1 + 3 * target
    return F.binary_cross_entropy_with_logits(answers.match.flatten(1), target, weight)


def cells_loss(logits: list[Tensor], extents: Tensor, cells: Tensor, attributes: Tensor, boxes: Tensor) -> Tensor:
    """What is in each cell, whatever is asked for: its attributes, and the extent of its object.

    Args:
        logits, extents: `cells` and `extents` of `Answers`; cells, attributes, boxes: of `Batch`.
    """
    numbers = cells.flatten(1)
    total = torch.zeros(())
    for axis, one in enumerate(logits):
        values = F.pad(attributes[:, :, axis] + 1, (1, 0))  # 0 for the background
        total = total + _CELLS * F.cross_entropy(one.flatten(2), values.gather(1, numbers))
    sides = F.pad(corners(boxes), (0, 0, 1, 0))
    true = sides.gather(1, numbers[..., None].expand(-1, -1, 4)).transpose(1, 2)
    inside = (numbers > 0).float()[:, None]
    extent = ((extents.flatten(2) + 0.5 - true).abs() * inside).sum() / (4 * inside.sum()).clamp(min=1)
    return total + _EXTENT * extent
