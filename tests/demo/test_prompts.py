import numpy as np
import torch
from sam3_demo.prompts import Prompts, corrective_clicks, deepest_click


def _logits(mask: torch.Tensor) -> torch.Tensor:
    return mask.float() * 10 - 5


def test_a_box_precedes_the_clicks_and_padding_comes_last() -> None:
    prompts = Prompts.boxes(torch.tensor([[[0.1, 0.2], [0.6, 0.7]]]))
    prompts = prompts.add(torch.tensor([[0.3, 0.4]]), torch.tensor([0], dtype=torch.int32))
    coords, labels = prompts.padded()
    assert labels.tolist() == [[2, 3, 0, -1]]
    assert coords[0, 0].tolist() == torch.tensor([0.1, 0.2]).tolist()
    assert coords[0, 3].tolist() == [0.0, 0.0]


def test_corrective_clicks_fall_in_the_error_region_with_its_label() -> None:
    targets = torch.zeros(64, 20, 20)
    targets[:, 4:14, 4:10] = 1
    answers = torch.zeros(64, 20, 20)
    answers[:, 4:14, 7:16] = 1  # misses the left columns, and goes too far to the right
    coords, labels = corrective_clicks(_logits(answers), targets, torch.Generator().manual_seed(0))
    cells = (coords * 20).long()
    wrong = (answers != targets)[torch.arange(64), cells[:, 1], cells[:, 0]]
    inside = targets[torch.arange(64), cells[:, 1], cells[:, 0]] > 0.5
    assert wrong.all()
    assert torch.equal(labels == 1, inside)
    assert inside.any()
    assert not inside.all()


def test_a_right_answer_is_confirmed_by_a_positive_click_inside() -> None:
    targets = torch.zeros(8, 20, 20)
    targets[:, 5:9, 5:9] = 1
    coords, labels = corrective_clicks(_logits(targets), targets, torch.Generator().manual_seed(0))
    assert labels.tolist() == [1] * 8
    assert ((coords * 20 >= 5) & (coords * 20 <= 9)).all()


def test_the_deepest_click_is_in_the_middle_of_the_largest_error() -> None:
    target = np.zeros((50, 100), bool)
    target[10:31, 20:41] = True
    nothing = np.zeros_like(target)
    coords, label = deepest_click(nothing, target)
    assert label == 1
    assert np.allclose(coords * (100, 50), (30, 20), atol=1)
    too_much = target.copy()
    too_much[5:46, 50:95] = True
    coords, label = deepest_click(too_much, target)
    assert label == 0
    assert 50 <= coords[0] * 100 < 95
