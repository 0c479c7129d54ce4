from __future__ import annotations

from typing import Any

import numpy as np
import prompts
import pytest
from prompts import Prompt, PromptError, check_size, lay_out
from sam3_export.components import click_prompts

SIZE = (400, 600)  # height, width
LOW_RES = (96, 96)
BOX, POINT = [150, 80, 450, 320], [300, 200]


def prompt(**parts: Any) -> Prompt:
    """A prompt of several objects."""
    arrays = {
        name: value if isinstance(value, bool) else np.array(value, np.int32 if name == "labels" else np.float32)
        for name, value in parts.items()
    }
    return Prompt(**arrays)


def single(**parts: Any) -> Prompt:
    """A prompt of one object."""
    return prompt(**{name: value if isinstance(value, bool) else [value] for name, value in parts.items()})


def test_points_become_fractions_with_one_padding_point_behind() -> None:
    layout = lay_out(single(points=[[300, 100], [0, 400]], labels=[1, 0]), SIZE, LOW_RES)
    np.testing.assert_allclose(layout.point_coords[0, 0, :3], [[0.5, 0.25], [0, 1], [0, 0]])
    assert layout.point_labels[0, 0, :3].tolist() == [1, 0, -1]
    assert layout.point_coords.dtype == np.float32
    assert layout.point_labels.dtype == np.int32


@pytest.mark.parametrize(
    ("points", "box", "slots"),
    [
        *[(1, False, 8), (7, False, 8), (8, False, 16), (15, False, 16), (16, False, 32), (31, False, 32)],
        *[(5, True, 8), (6, True, 16), (32, False, 64), (63, False, 64), (64, False, 96)],
    ],
)
def test_empty_slots_fill_a_prompt_up_to_a_slot_count(points: int, box: bool, slots: int) -> None:
    given = {"points": [POINT] * points} | ({"boxes": BOX} if box else {})
    layout = lay_out(single(**given), SIZE, LOW_RES)
    used = [2, 3] * box + [1] * points + [-1]
    assert layout.point_labels.tolist() == [[used + [-2] * (slots - len(used))]]
    assert layout.point_coords.shape == (1, 1, slots, 2)
    assert not layout.point_coords[0, 0, len(used) - 1 :].any()


def test_labels_mean_what_the_decoders_spec_says() -> None:
    for name in ("FOREGROUND", "BACKGROUND", "BOX_FIRST", "BOX_SECOND", "PADDING", "EMPTY"):
        assert getattr(prompts, name) == getattr(click_prompts, name)


def test_labels_left_out_are_foreground() -> None:
    layout = lay_out(single(points=[[1, 1], [2, 2]]), SIZE, LOW_RES)
    assert layout.point_labels[0, 0, :3].tolist() == [1, 1, -1]


def test_a_box_comes_before_the_points() -> None:
    layout = lay_out(single(boxes=BOX, points=[POINT], labels=[0]), SIZE, LOW_RES)
    assert layout.point_labels[0, 0, :4].tolist() == [2, 3, 0, -1]
    np.testing.assert_allclose(layout.point_coords[0, 0, :2], [[0.25, 0.2], [0.75, 0.8]])


def test_objects_are_laid_out_side_by_side() -> None:
    boxes, points = [BOX, [0, 0, 60, 40], [10, 20, 30, 40]], [[[1, 2], [3, 4]], [POINT, [0, 0]], [[5, 6], [7, 8]]]
    together = lay_out(prompt(boxes=boxes, points=points, labels=[[1, 0], [0, 1], [1, 1]]), SIZE, LOW_RES)
    assert together.point_coords.shape == (1, 3, 8, 2)
    assert together.mask_input.shape == (1, 1, 96, 96)
    for index, labels in enumerate([[1, 0], [0, 1], [1, 1]]):
        alone = lay_out(single(boxes=boxes[index], points=points[index], labels=labels), SIZE, LOW_RES)
        np.testing.assert_array_equal(together.point_coords[0, index], alone.point_coords[0, 0])
        np.testing.assert_array_equal(together.point_labels[0, index], alone.point_labels[0, 0])


def test_unused_slots_let_objects_differ_in_their_number_of_points() -> None:
    points = [[[30, 40], [np.nan, 7]], [[60, 80], [90, 100]]]
    layout = lay_out(prompt(points=points, labels=[[1, -2], [1, 0]]), SIZE, LOW_RES)
    assert layout.point_labels[0, :, :3].tolist() == [[1, -2, -1], [1, 0, -1]]
    np.testing.assert_allclose(layout.point_coords[0, 0, :3], [[0.05, 0.1], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("box", "fractions"),
    [
        ([-10, -20, 300, 200], [[-10 / 600, -0.05], [0.5, 0.5]]),
        ([300, 200, 900, 600], [[0.5, 0.5], [1.5, 1.5]]),
        ([-600, -400, 1200, 800], [[-1, -1], [2, 2]]),
    ],
)
def test_a_box_that_overhangs_the_image_is_not_clipped(box: list[float], fractions: list) -> None:
    layout = lay_out(single(boxes=box), SIZE, LOW_RES)
    np.testing.assert_allclose(layout.point_coords[0, 0, :2], fractions, rtol=1e-6)


def test_without_a_mask_input_all_objects_share_zeros_that_are_marked_absent() -> None:
    layout = lay_out(prompt(boxes=[BOX, BOX]), SIZE, LOW_RES)
    assert layout.mask_input.shape == (1, 1, 96, 96)
    assert not layout.mask_input.any()
    assert layout.has_mask_input.tolist() == [[False]]


def test_mask_inputs_are_passed_on() -> None:
    masks = np.stack([np.full((96, 96), value, np.float32) for value in (-3.5, 2.0)])
    layout = lay_out(prompt(points=[[[1, 1]], [[2, 2]]], mask_input=masks), SIZE, LOW_RES)
    np.testing.assert_array_equal(layout.mask_input[0], masks)
    assert layout.has_mask_input.tolist() == [[True]]


def test_a_mask_input_alone_has_no_padding_point_as_in_metas_predictor() -> None:
    layout = lay_out(single(mask_input=np.ones((96, 96))), SIZE, LOW_RES)
    assert layout.point_labels.tolist() == [[[-2] * 8]]
    assert layout.has_mask_input.tolist() == [[True]]


@pytest.mark.parametrize(("multimask", "tokens"), [(False, [[0]]), (True, [[1, 2, 3]])])
def test_multimask_chooses_the_mask_tokens(multimask: bool, tokens: list) -> None:
    assert lay_out(single(points=[[1, 1]], multimask=multimask), SIZE, LOW_RES).mask_tokens.tolist() == tokens


@pytest.mark.parametrize("point", [[-1, -1], [601, 401], [600, 400]])
def test_a_pixel_outside_is_rounding(point: list[float]) -> None:
    lay_out(single(points=[point]), SIZE, LOW_RES)


def test_points_far_outside_are_laid_out_if_the_caller_says_so() -> None:
    layout = lay_out(single(points=[[-300, 800]], outside=True), SIZE, LOW_RES)
    assert layout.point_coords[0, 0, 0].tolist() == [-0.5, 2]
    with pytest.raises(PromptError, match="must be finite"):
        lay_out(single(points=[[np.inf, 0]], outside=True), SIZE, LOW_RES)
    with pytest.raises(PromptError, match="outside the image"):
        lay_out(single(points=[[3e38, 0]], outside=True), SIZE, LOW_RES)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"labels": [1]}, "without POINTS"),
        ({"points": [[1, 1]], "labels": [1, 0]}, r"LABELS must have the shape \[1, 1\] for these POINTS, not \[1, 2\]"),
        ({"points": [[1, 1], [2, 2]], "labels": [1, 2]}, r"LABELS\[0, 1\] is 2"),
        ({"points": [[1, 1]], "labels": [-1]}, r"LABELS\[0, 0\] is -1"),
        ({"points": [[1, 1], [400, 401.5]]}, r"POINTS\[0, 1\] is \(400, 401.5\), outside the image of 600 x 400"),
        ({"points": [[-1.5, 0]]}, r"POINTS\[0, 0\].*outside"),
        ({"points": [[np.nan, 0]]}, "must be finite"),
        ({"points": [[0, np.inf]]}, "must be finite"),
        ({"boxes": [10, 10, 10, 20]}, "x1 < x2"),
        ({"boxes": [10, 30, 20, 20]}, "y1 < y2"),
        ({"boxes": [600, 10, 700, 20]}, r"BOXES\[0\] is \(600, 10, 700, 20\), wholly outside the image of 600 x 400"),
        ({"boxes": [-50, 10, 0, 20]}, "wholly outside"),
        ({"boxes": [10, -50, 20, 0]}, "wholly outside"),
        ({"boxes": [10, 400, 20, 500]}, "wholly outside"),
        ({"boxes": [10, np.nan, 20, 30]}, "must be finite"),
        ({"boxes": [10, 10, 3e38, 30]}, "1000 times as large as the image"),
        ({"points": [[1, 1]], "mask_input": np.zeros((95, 96))}, r"\[1, 95, 96\], but this model takes \[1, 96, 96\]"),
        ({"points": [[1, 1]], "mask_input": np.full((96, 96), np.nan)}, "NaN or infinity"),
    ],
)
def test_a_bad_prompt_is_reported(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(PromptError, match=fault):
        lay_out(single(**parts), SIZE, LOW_RES)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"boxes": [BOX, [700, 0, 800, 10]]}, r"BOXES\[1\] .*wholly outside"),
        ({"points": [[[1, 1]], [[9999, 1]]]}, r"POINTS\[1, 0\] .*outside"),
        ({"points": [[[1, 1]], [[2, 2]]], "labels": [[1], [-2]]}, "object 1 has no point, no box and no mask input"),
        ({"points": [[[1, 1]]] * 2, "boxes": [BOX] * 3}, "same objects, not POINTS for 2, BOXES for 3"),
        ({"boxes": [BOX] * 2, "mask_input": np.zeros((3, 96, 96))}, "BOXES for 2, MASK_INPUT for 3"),
        ({"boxes": np.zeros((0, 4))}, "0 objects"),
    ],
)
def test_a_bad_prompt_of_several_objects_is_reported(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(PromptError, match=fault):
        lay_out(prompt(**parts), SIZE, LOW_RES)


@pytest.mark.parametrize("parts", [{"boxes": [BOX]}, {"points": [[POINT]]}, {"mask_input": np.zeros((1, 96, 96))}])
def test_the_number_of_objects_is_bounded(parts: dict[str, Any]) -> None:
    name, (part,) = next(iter(parts.items()))
    check_size(prompt(**{name: [part] * 4}), 4)
    with pytest.raises(PromptError, match="5 objects, but a request may have at most 4: send several requests"):
        check_size(prompt(**{name: [part] * 5}), 4)


def test_the_number_of_points_is_bounded() -> None:
    check_size(prompt(points=[[POINT] * 64] * 2), 4)
    with pytest.raises(PromptError, match="130 points, but a request may have at most 128"):
        check_size(prompt(points=[[POINT] * 65] * 2), 4)


@pytest.mark.parametrize(
    ("parts", "empty"),
    [
        ({}, True),
        ({"points": np.zeros((1, 0, 2))}, True),
        ({"points": np.zeros((0, 2, 2))}, True),
        ({"mask_input": np.zeros((1, 96, 96))}, False),
        ({"points": [[[1, 1]]]}, False),
        ({"boxes": [[1, 1, 2, 2]]}, False),
    ],
)
def test_a_prompt_without_points_box_and_mask_is_empty(parts: dict[str, Any], empty: bool) -> None:
    assert prompt(**parts).is_empty == empty
    lay_out(prompt(**parts), SIZE, LOW_RES)


def test_an_empty_prompt_is_laid_out_as_empty_slots() -> None:
    layout = lay_out(Prompt(), SIZE, LOW_RES)
    assert layout.point_labels.tolist() == [[[prompts.EMPTY] * 8]]
    assert not layout.point_coords.any()
