import pytest
import torch
from sam3_export.demo.losses import answer_loss, mask_losses, overlaps


@pytest.fixture
def target() -> torch.Tensor:
    mask = torch.zeros(1, 12, 12)
    mask[:, 3:8, 2:9] = 1
    return mask


def test_a_better_mask_costs_less(target: torch.Tensor) -> None:
    right = target * 12 - 6
    shifted = right.roll(2, dims=2)
    losses = mask_losses(torch.stack([right, shifted, -right], dim=1), target)[0]
    assert losses[0] < losses[1] < losses[2]
    assert losses[0] < 0.05


def test_candidates_are_judged_by_the_best_one(target: torch.Tensor) -> None:
    right, wrong = target * 12 - 6, 6 - target * 12
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    one_right = answer_loss(torch.stack([right, right, wrong, wrong], 1), scores, target)
    none_right = answer_loss(torch.stack([right, wrong, wrong, wrong], 1), scores, target)
    assert one_right < 0.2 * none_right


def test_scores_are_drawn_to_the_true_overlap(target: torch.Tensor) -> None:
    logits = torch.stack([target * 12 - 6, *[torch.full_like(target, -6.0)] * 3], 1)
    assert overlaps(logits, target).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    honest = answer_loss(logits, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), target)
    boastful = answer_loss(logits, torch.tensor([[1.0, 1.0, 1.0, 1.0]]), target)
    assert honest < boastful
