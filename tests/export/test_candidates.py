"""Instances whose scores are equal but for rounding may change places; other differences show."""

from __future__ import annotations

import numpy as np
import pytest
from sam3_export.candidates import in_order_of
from sam3_export.spec import Arrays

RNG = np.random.default_rng(0)
COUNT = 200
EXPECTED: Arrays = {
    "SCORES": np.sort(RNG.uniform(0, 1, (2, COUNT)).astype(np.float32))[:, ::-1],
    "BOXES": RNG.uniform(0, 1, (2, COUNT, 4)).astype(np.float32),
    "MASK_LOGITS": RNG.normal(0, 9, (2, COUNT, 24, 24)).astype(np.float32),
    "PRESENCE": np.ones((2, 1), np.float32),
}


def swapped(first: int, second: int, image: int = 1) -> Arrays:
    """The answer with two instances of an image exchanged, whose scores are made equal."""
    order = np.arange(COUNT)
    order[[first, second]] = second, first
    answer = {name: values.copy() for name, values in EXPECTED.items()}
    for name in ("BOXES", "MASK_LOGITS"):
        answer[name][image] = answer[name][image][order]
    return answer


def test_instances_that_changed_places_are_put_back() -> None:
    found = in_order_of(EXPECTED, swapped(4, 5))
    for name in ("BOXES", "MASK_LOGITS", "PRESENCE"):
        np.testing.assert_array_equal(found[name], EXPECTED[name])
    # The scores go with their instances, so two that are not equal show.
    np.testing.assert_array_equal(found["SCORES"][1, [5, 4]], EXPECTED["SCORES"][1, [4, 5]])
    np.testing.assert_array_equal(found["SCORES"][0], EXPECTED["SCORES"][0])


def test_rounding_does_not_confuse_them() -> None:
    rounded = {name: values.astype(np.float16).astype(np.float32) for name, values in swapped(0, 3).items()}
    rounded["SCORES"] = EXPECTED["SCORES"]
    found = in_order_of(EXPECTED, rounded)
    np.testing.assert_allclose(found["BOXES"], EXPECTED["BOXES"], atol=1e-3)


@pytest.mark.parametrize("name", ["BOXES", "MASK_LOGITS"])
def test_a_wrong_instance_stays_wrong(name: str) -> None:
    wrong = {key: values.copy() for key, values in EXPECTED.items()}
    wrong[name][0, 7] += 1
    assert np.abs(in_order_of(EXPECTED, wrong)[name] - EXPECTED[name]).max() >= 0.99


def test_an_answer_in_no_order_is_left_alone() -> None:
    unsorted = {**EXPECTED, "SCORES": EXPECTED["SCORES"][:, ::-1]}
    assert in_order_of(EXPECTED, unsorted) is unsorted
    short = {**EXPECTED, "BOXES": EXPECTED["BOXES"][:, :5]}
    assert in_order_of(EXPECTED, short) is short
