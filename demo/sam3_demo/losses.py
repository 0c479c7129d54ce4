"""Training losses of the demonstration network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sam3_demo.samples import NO_BOX

_FOCAL_WEIGHT = 20.0
_SCORE_WEIGHT = 4.0
_LOSERS_SHARE = 0.05  # weight of the candidates that did not win; without it, one may never be used
_NEIGHBOURS = (1, 4)  # distances, in low-resolution cells, over which the layout head compares objects


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """20 x focal + dice of every mask, [T, M]; `logits` fp32 [T, M, h, w], `targets` coverage fp32 [T, h, w]."""
    targets = targets[:, None].expand_as(logits).flatten(2)
    logits = logits.flatten(2)
    chances = logits.sigmoid()
    # The focal loss for soft targets, weighted by the squared error of the probability.
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    focal = (entropy * (chances - targets) ** 2).mean(2)
    overlap = (chances * targets).sum(2)
    dice = 1 - (2 * overlap + 1) / (chances.sum(2) + targets.sum(2) + 1)
    return _FOCAL_WEIGHT * focal + dice


def overlaps(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of every mask with its target in low-resolution cells, [T, M]."""
    answer, truth = logits > 0, (targets > 0.5)[:, None]
    return (answer & truth).flatten(2).sum(2) / (answer | truth).flatten(2).sum(2).clamp(min=1)


def answer_loss(logits: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
    """Loss of the answers to T prompts: token 0, the best candidate, and the scores.

    Args:
        logits: fp32 [T, 4, h, w].
        scores: fp32 [T, 4].
        targets: coverage of each cell, fp32 [T, h, w].
    """
    masks = mask_losses(logits, targets)
    single, candidates = masks[:, 0], masks[:, 1:]
    best = candidates.min(1).values
    scoring = F.mse_loss(scores, overlaps(logits.detach(), targets))
    return (single + best + _LOSERS_SHARE * candidates.mean(1)).mean() + _SCORE_WEIGHT * scoring


class LayoutHead(nn.Module):
    """Predicts the objects in every patch, in training only, to teach the encoder what an object is.

    A click gives information about one object only, so the encoder learns slowly from clicks alone. For each cell of
    the low-resolution grid, the head predicts the extent of its object, and whether the cells to the right and below
    belong to the same object.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.outputs = 4 + 2 * len(_NEIGHBOURS)
        self.project = nn.Linear(channels, 16 * self.outputs)

    def forward(self, tokens: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
        """Returns the loss; `tokens`: the backbone's, fp32 [B, g * g, C]; `labels`, `boxes`: as in `Batch`, h = 4g."""
        grid = labels.shape[1] // 4
        predicted = self.project(tokens).transpose(1, 2).reshape(len(tokens), -1, grid, grid)
        predicted = F.pixel_shuffle(predicted, 4)
        known = (boxes != NO_BOX).float()
        extent = ((predicted[:, :4] + 0.5 - boxes).abs() * known).sum() / known.sum().clamp(min=1)
        loss = 3 * extent
        for index, step in enumerate(_NEIGHBOURS):
            right = (labels[:, :, step:] == labels[:, :, :-step]).float()
            below = (labels[:, step:] == labels[:, :-step]).float()
            loss = loss + F.binary_cross_entropy_with_logits(predicted[:, 4 + 2 * index, :, :-step], right)
            loss = loss + F.binary_cross_entropy_with_logits(predicted[:, 5 + 2 * index, :-step], below)
        return loss
