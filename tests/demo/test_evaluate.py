"""The figures that decide whether a checkpoint is good enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sam3_demo.evaluate import measure
from sam3_demo.held_out import box_of, held_out, overlap
from sam3_demo.predictor import Answer
from sam3_demo.prompts import BOX_LABELS, Prompts

SCENES = 6


def test_overlap_is_intersection_over_union() -> None:
    left, right = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    left[:, :4] = True
    right[:, 3:] = True
    assert overlap(left, right) == pytest.approx(4 / 24)
    assert overlap(left, left) == 1
    assert overlap(left, ~left) == 0


def test_a_box_touches_its_target_on_every_side() -> None:
    target = np.zeros((10, 20), bool)
    target[2:5, 4:8] = True
    torch.testing.assert_close(box_of(target), torch.tensor([[[0.2, 0.2], [0.4, 0.5]]]))


class Oracle:
    """Knows the targets, and answers with known figures: see `test_each_figure_is_of_its_own_prompt`."""

    def __init__(self) -> None:
        self.targets = {scene.image.tobytes(): targets[0] for scene, targets in held_out("plain", SCENES)}

    def look_at(self, image: np.ndarray) -> None:
        self.target = self.targets[image.tobytes()]

    def answer(self, prompts: Prompts, multimask: bool = False, mask: torch.Tensor | None = None) -> Answer:
        if multimask:
            # The best candidate does not have the highest score.
            shares, scores = (0.5, 1.0, 0.0), (0.9, 0.1, 0.05)
        elif tuple(prompts.labels[0].tolist()) == BOX_LABELS:
            shares, scores = (0.75,), (0.5,)
        else:
            clicks = prompts.labels.shape[1]
            shares, scores = (0.2 * clicks + (0.1 if mask is not None else 0),), (0.5,)
        return Answer(np.stack([self.part(share) for share in shares]), np.array(scores), torch.zeros(1, 2, 2))

    def part(self, share: float) -> np.ndarray:
        """A mask of this share of the target's pixels."""
        rows, columns = np.nonzero(self.target)
        mask = np.zeros_like(self.target)
        count = round(share * len(rows))
        mask[rows[:count], columns[:count]] = True
        return mask


def test_each_figure_is_of_its_own_prompt() -> None:
    figures = measure(Oracle(), "plain", SCENES)
    expected = {
        "best_of_three": 1.0,
        "highest_scored": 0.5,
        "box": 0.75,
        "clicks_1": 0.2,
        "clicks_2": 0.4,
        "clicks_3": 0.6,
        "clicks_2_mask_input": 0.5,
        "clicks_3_mask_input": 0.7,
    }
    assert {name: round(figures[name], 2) for name in expected} == expected
    assert figures["score_correlation"] == pytest.approx(np.corrcoef([0.9, 0.1, 0.05], [0.5, 1, 0])[0, 1], abs=0.02)
    assert figures["targets"] == SCENES
