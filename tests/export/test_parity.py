"""The parity check passes a right artifact and stops every kind of wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from sam3_export import parity
from sam3_export.artifacts import Declared
from sam3_export.components import Case
from sam3_export.spec import BATCH, MASKS, Arrays, ComponentSpec, TensorSpec

SPEC = ComponentSpec(
    model_name="sam3_mask_decoder",
    title="mask decoder",
    inputs=(TensorSpec("X", "float32", (BATCH, 2)),),
    outputs=(
        TensorSpec("MASK_LOGITS", "float32", (BATCH, MASKS, 8, 8)),
        TensorSpec("SCORES", "float32", (BATCH, MASKS)),
    ),
    tolerances={"MASK_LOGITS": 1e-3, "SCORES": 1e-3},
)
LOGITS = np.random.default_rng(0).normal(0, 4, (1, 3, 8, 8)).astype(np.float32)
ANSWER = {"MASK_LOGITS": LOGITS, "SCORES": np.array([[0.9, 0.5, 0.1]], np.float32)}
CASES = [Case("a case", {"X": np.zeros((1, 2), np.float32)}, ANSWER)]


class FakeArtifact:
    """Returns a given answer, since the parity check is under test, not a format."""

    def __init__(self, answer: Arrays, axes: tuple = (BATCH, MASKS, 8, 8)) -> None:
        self.answer = answer
        self.axes = axes

    def declared(self) -> tuple[list[Declared], list[Declared]]:
        outputs = [Declared("MASK_LOGITS", "float32", self.axes), Declared("SCORES", "float32", (BATCH, MASKS))]
        return [Declared("X", "float32", (BATCH, 2))], outputs

    def run(self, inputs: Arrays) -> Arrays:
        return self.answer


def test_the_same_answer_passes_and_is_measured() -> None:
    result = parity.check(FakeArtifact({**ANSWER, "SCORES": ANSWER["SCORES"] + 5e-4}), SPEC, CASES, 32)
    assert result.differences["a case"]["MASK_LOGITS"] == 0
    assert result.differences["a case"]["SCORES"] == pytest.approx(5e-4, rel=0.01)
    assert result.minimum_mask_iou == 1


def test_a_fixed_batch_axis_is_stopped() -> None:
    with pytest.raises(parity.ParityError, match="declares the outputs"):
        parity.check(FakeArtifact(ANSWER, axes=(2, MASKS, 8, 8)), SPEC, CASES, 32)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"SCORES": None}, "SCORES is missing"),
        ({"SCORES": ANSWER["SCORES"].astype(np.float64)}, "dtype float64"),
        ({"SCORES": ANSWER["SCORES"][:, :1]}, "shape"),
        ({"SCORES": ANSWER["SCORES"] + 2e-3}, "differs from PyTorch"),
        ({"SCORES": ANSWER["SCORES"] * np.nan}, "differs from PyTorch by nan"),
        ({"MASK_LOGITS": LOGITS[:, ::-1]}, "differs from PyTorch"),
    ],
)
def test_a_false_answer_is_stopped(change: Arrays, fault: str) -> None:
    answer = {name: array for name, array in {**ANSWER, **change}.items() if array is not None}
    with pytest.raises(parity.ParityError, match=fault):
        parity.check(FakeArtifact(answer), SPEC, CASES, 32)


NEAR = {**ANSWER, "SCORES": np.array([[0.9, 0.5002, 0.5]], np.float32)}
SWAPPED = {"MASK_LOGITS": LOGITS[:, [0, 2, 1]], "SCORES": np.array([[0.9, 0.5001, 0.5]], np.float32)}


def test_candidates_of_nearly_equal_scores_may_change_places() -> None:
    cases = [Case("a tie", CASES[0].inputs, NEAR)]
    result = parity.check(FakeArtifact(SWAPPED), SPEC, cases, 32)
    assert result.differences["a tie"]["MASK_LOGITS"] == 0
    assert result.differences["a tie"]["SCORES"] == pytest.approx(2e-4, rel=0.01)
    assert result.answers["a tie"] is SWAPPED


def test_candidates_of_different_scores_may_not() -> None:
    swapped = {"MASK_LOGITS": LOGITS[:, [0, 2, 1]], "SCORES": ANSWER["SCORES"]}
    with pytest.raises(parity.ParityError, match="SCORES differs from PyTorch"):
        parity.check(FakeArtifact(swapped), SPEC, CASES, 32)


def test_candidates_that_are_not_sorted_are_stopped() -> None:
    unsorted = {name: values[:, [0, 2, 1]] for name, values in ANSWER.items()}
    with pytest.raises(parity.ParityError, match="MASK_LOGITS differs from PyTorch"):
        parity.check(FakeArtifact(unsorted), SPEC, CASES, 32)


def test_small_differences_that_change_the_mask_are_stopped() -> None:
    faint = np.full((1, 1, 8, 8), 1e-4, np.float32)  # within the tolerance of its negative
    expected = {"MASK_LOGITS": faint, "SCORES": np.ones((1, 1), np.float32)}
    cases = [Case("faint", CASES[0].inputs, expected)]
    with pytest.raises(parity.ParityError, match="IoU with PyTorch's is 0.0000"):
        parity.check(FakeArtifact({**expected, "MASK_LOGITS": -faint}), SPEC, cases, 32)
