from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sam3_triton import InvalidInputError
from sam3_triton.prompts import Prompt


def test_labels_left_out_are_foreground() -> None:
    prompt = Prompt.of(points=[[1, 2], [3, 4]])
    assert prompt.labels is not None
    assert prompt.labels.tolist() == [1, 1]
    assert prompt.labels.dtype == np.int32


def test_a_box_alone_is_a_prompt() -> None:
    prompt = Prompt.of(box=(1, 2, 3, 4), points=[], labels=[])
    assert prompt.points is None
    assert prompt.labels is None


def test_a_row_of_logits_is_a_mask_input() -> None:
    prompt = Prompt.of(points=[[1, 2]], mask_input=np.zeros((96, 96)))
    assert prompt.mask_input is not None
    assert prompt.mask_input.shape == (1, 96, 96)
    assert prompt.mask_input.dtype == np.float32


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({}, "no prompt"),
        ({"points": []}, "no prompt"),
        ({"mask_input": np.zeros((1, 4, 4))}, "no prompt"),
        ({"points": "here"}, "points must be numbers"),
        ({"points": [[1, 2], [3]]}, "points must be numbers"),
        ({"points": [1, 2]}, r"points must have the shape \[N, 2\], not \[2\]"),
        ({"points": [[1, 2, 3]]}, r"\[N, 2\], not \[1, 3\]"),
        ({"points": [[1, float("nan")]]}, "points must be finite"),
        ({"points": [[1, float("inf")]]}, "points must be finite"),
        ({"points": [[1, 2]], "labels": [1, 0]}, "1 points, but 2 labels"),
        ({"labels": [1], "box": [1, 2, 3, 4]}, "0 points, but 1 labels"),
        ({"points": [[1, 2]], "labels": [2]}, "a label must be 1 .* not 2"),
        ({"points": [[1, 2]], "labels": [0.5]}, "a label must be 1 .* not 0.5"),
        ({"points": [[1, 2]], "labels": 1}, "labels must be a list"),
        ({"points": [[1, 2]], "labels": ["x"]}, "labels must be a list"),
        ({"box": [1, 2, 3]}, r"box must have the shape \[4\]"),
        ({"box": [3, 2, 1, 4]}, "x1 < x2"),
        ({"box": [1, 4, 3, 4]}, "y1 < y2"),
        ({"box": [1, 2, float("nan"), 4]}, "box must be finite"),
        ({"points": [[1, 2]], "mask_input": np.zeros((2, 4, 4, 4))}, "mask_input must have the shape"),
        ({"points": [[1, 2]], "mask_input": np.full((4, 4), np.inf)}, "mask_input must be finite"),
    ],
)
def test_the_fault_of_an_invalid_prompt_is_named(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault):
        Prompt.of(**parts)
