"""How far an answer to a golden click is from PyTorch's, as the export measures it and as `sam3 doctor` does."""

from __future__ import annotations

import numpy as np
import pytest
from sam3_export import golden_clicks
from sam3_triton import Prediction, Prompt, ServedModel
from sam3_triton.doctor import golden

MODEL = ServedModel("SAM 3.1", "0" * 64)
LOGITS = np.random.default_rng(0).normal(0, 8, (3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("scores", "drift"),
    [
        ([0.9, 0.5, 0.1], 0.05),  # after a sigmoid (SAM 3): the difference itself
        ([0.3, -0.2, -0.9], 0.05),
        ([4.0, -0.2, -10.0], 0.005),  # without one (SAM 3.1): of the largest
    ],
)
def test_scores_of_any_size_have_a_scale(scores: list[float], drift: float) -> None:
    expected = np.array(scores, np.float32)
    found = expected + np.array([0, -0.05, 0], np.float32)
    exported = golden_clicks._drift(
        {"MASK_LOGITS": LOGITS[None] + 0.1, "SCORES": found[None]},
        {"MASK_LOGITS": LOGITS[None], "SCORES": expected[None]},
    )
    assert exported.score == pytest.approx(drift, rel=1e-3)
    click = golden.Click("a click", Prompt.of(points=[[1, 1]]), expected, LOGITS)
    served = golden._drift(Prediction((b"",) * 3, found, "an id", False, MODEL, LOGITS + 0.1), click)
    assert served["score"] == pytest.approx(drift, rel=1e-3)
    assert served["logits"] == pytest.approx(exported.logits)
