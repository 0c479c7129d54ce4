"""How far a server's answer to a golden click is from PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from sam3_triton import Prediction, Prompt, ServedModel
from sam3_triton.doctor.golden import Click, _drift

LOGITS = np.random.default_rng(0).normal(0, 4, (3, 8, 8)).astype(np.float32)
SCORES = np.array([0.9, 0.502, 0.5], np.float32)
CLICK = Click("a click", Prompt.of(points=[[1, 1]], multimask=True), SCORES, LOGITS)


def answer(logits: np.ndarray, scores: np.ndarray) -> Prediction:
    return Prediction((b"",) * len(scores), scores, "an id", True, ServedModel("SAM 3", "0" * 64), logits)


def test_the_same_answer_does_not_drift() -> None:
    assert _drift(answer(LOGITS, SCORES), CLICK) == {"logits": 0, "score": 0, "mask_iou": 1}


def test_candidates_of_nearly_equal_scores_may_change_places() -> None:
    drift = _drift(answer(LOGITS[[0, 2, 1]], np.array([0.9, 0.501, 0.5], np.float32)), CLICK)
    assert (drift["logits"], drift["mask_iou"]) == (0, 1)
    assert drift["score"] == pytest.approx(0.002, rel=0.01)


def test_candidates_of_different_scores_may_not() -> None:
    assert _drift(answer(LOGITS[[1, 0, 2]], SCORES), CLICK)["score"] == pytest.approx(0.398, rel=0.01)


def test_other_candidates_drift_wholly() -> None:
    assert _drift(answer(LOGITS[:1], SCORES[:1]), CLICK)["logits"] == float("inf")
    assert _drift(answer(-LOGITS, SCORES), CLICK)["mask_iou"] < 0.5
