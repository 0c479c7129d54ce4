import pytest
import torch
from sam3_demo.losses import LayoutHead, answer_loss, mask_losses, overlaps


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


def test_an_empty_answer_costs_the_whole_dice(target: torch.Tensor) -> None:
    empty = torch.full_like(target, -20.0)[:, None]
    focal = 20 * 20.0 * 35 / 144  # cross entropy 20 at full weight, in the target's share of the cells
    assert mask_losses(empty, target).item() == pytest.approx(focal + 1 - 1 / (35 + 1), rel=1e-4)


def test_overlap_counts_what_is_missed_and_what_is_too_much(target: torch.Tensor) -> None:
    shifted = (target.roll(1, dims=2) * 12 - 6)[:, None]
    assert overlaps(shifted, target).item() == pytest.approx(6 / 8)
    larger = torch.full_like(target, 6.0)[:, None]
    assert overlaps(larger, target).item() == pytest.approx(35 / 144)


def test_the_single_mask_is_judged_by_itself(target: torch.Tensor) -> None:
    right, wrong = target * 12 - 6, 6 - target * 12
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    right_single = answer_loss(torch.stack([right, right, wrong, wrong], 1), scores, target)
    wrong_single = answer_loss(torch.stack([wrong, right, wrong, wrong], 1), scores, target)
    assert right_single < 0.5 * wrong_single


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


def test_the_layout_head_is_judged_by_extents_and_by_neighbours() -> None:
    head = LayoutHead(channels=3)
    for parameter in head.parameters():
        parameter.data.zero_()
    # Its prediction for every cell: extent (0.1, 0.2, 0.6, 0.7), the same object to the right, another one below.
    told = [-0.4, -0.3, 0.1, 0.2, 20, -20, 20, -20]
    head.project.bias.data = torch.tensor(told).repeat_interleave(16).float()
    tokens = torch.zeros(1, 9, 3)
    boxes = torch.tensor([0.1, 0.2, 0.6, 0.7])[None, :, None, None].expand(1, 4, 12, 12)
    rows = torch.arange(12)[None, :, None].expand(1, 12, 12)
    assert head(tokens, rows, boxes).item() == pytest.approx(0, abs=1e-5)
    assert head(tokens, rows.transpose(1, 2), boxes).item() == pytest.approx(4 * 20, rel=1e-3)
    assert head(tokens, rows, boxes + 0.1).item() == pytest.approx(3 * 0.1, rel=1e-3)
