from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sam3_triton import InvalidInputError
from sam3_triton.objects import tensors_of
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


def test_a_mask_input_alone_is_a_prompt() -> None:
    assert Prompt.of(mask_input=np.zeros((96, 96))).mask_input is not None


def test_booleans_are_labels_as_javascript_sends_them() -> None:
    prompt = Prompt.of(points=[[1, 2], [3, 4]], labels=[True, False])
    assert prompt.labels is not None
    assert prompt.labels.tolist() == [1, 0]


def test_a_box_may_overhang_the_image() -> None:
    prompt = Prompt.of(box=[-10, -5, 20, 30])
    assert prompt.box is not None
    assert prompt.box.tolist() == [-10, -5, 20, 30]


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({}, "no prompt"),
        ({"points": []}, "no prompt"),
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


def test_lists_become_the_prompts_of_several_objects() -> None:
    boxes = [[1, 2, 3, 4], [5, 6, 7, 8]]
    first, second = Prompt.each(points=[[[1, 2]], []], labels=[[0], []], boxes=boxes, multimask=True)
    assert [first.box.tolist(), second.box.tolist()] == boxes
    assert (first.points.tolist(), first.labels.tolist()) == ([[1, 2]], [0])
    assert (second.points, second.labels) == (None, None)
    assert [first.multimask, second.multimask] == [True, True]


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({}, "no prompt"),
        ({"boxes": []}, "no prompt"),
        ({"boxes": [[1, 2, 3, 4]], "points": [[[1, 2]], [[3, 4]]]}, "one entry for each object, not 2 points, 1 boxes"),
        ({"boxes": [[1, 2, 3, 4], [5, 6, 5, 8]]}, "object 1: box must be x1, y1, x2, y2 with x1 < x2"),
        ({"points": [[[1, 2]], []]}, "object 1: no prompt"),
        ({"points": [[1, 2], [3, 4]]}, r"object 0: points must have the shape \[N, 2\], not \[2\]"),
        ({"points": [[[1, 2]]], "labels": [[1, 0]]}, "object 0: 1 points, but 2 labels"),
        ({"boxes": 7}, "boxes must be a list with an entry for each object, not 7"),
    ],
)
def test_the_fault_of_an_invalid_list_is_named(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault):
        Prompt.each(**parts)


def test_objects_with_fewer_points_are_filled_up_with_unused_slots() -> None:
    prompts = Prompt.each(points=[[[1, 2]], [[3, 4], [5, 6]]], labels=[[0], [1, 0]])
    tensors = tensors_of(prompts)
    assert tensors["POINTS"].tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    assert tensors["LABELS"].tolist() == [[0, -2], [1, 0]]
    assert tensors["MULTIMASK"].tolist() == [False]
    assert tensors.keys() == {"POINTS", "LABELS", "MULTIMASK"}


def test_boxes_and_mask_inputs_have_a_row_for_each_object() -> None:
    prompts = [Prompt.of(box=[value, 0, 9, 9], mask_input=np.full((4, 4), value)) for value in (1, 2)]
    tensors = tensors_of(prompts)
    assert tensors["BOXES"].tolist() == [[1, 0, 9, 9], [2, 0, 9, 9]]
    assert tensors["MASK_INPUT"].shape == (2, 4, 4)
    assert tensors["MASK_INPUT"][:, 0, 0].tolist() == [1, 2]
    assert "POINTS" not in tensors


POINT, BOX = Prompt.of(points=[[1, 2]]), Prompt.of(box=[1, 2, 3, 4])


@pytest.mark.parametrize(
    ("prompts", "fault"),
    [
        ([], "the list of objects is empty"),
        ([BOX, POINT], "object 1 has no box, but others have"),
        ([Prompt.of(points=[[1, 2]], mask_input=np.zeros((4, 4))), POINT], "object 1 has no mask input"),
        (
            [Prompt.of(mask_input=np.zeros((side, side))) for side in (4, 5)],
            "mask inputs of a request must have the same",
        ),
        ([POINT, Prompt.of(points=[[1, 2]], multimask=True)], "must have the same multimask"),
    ],
)
def test_prompts_that_cannot_share_a_request_are_refused(prompts: list[Prompt], fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault):
        tensors_of(prompts)
