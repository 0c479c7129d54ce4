from __future__ import annotations

from typing import Any

import numpy as np
import prompts
import pytest
from prompts import Prompt, PromptError, lay_out
from sam3_export.components import click_prompts

SIZE = (400, 600)  # height, width
LOW_RES = (96, 96)


def prompt(**parts: Any) -> Prompt:
    arrays = {
        name: value if isinstance(value, bool) else np.array(value, np.int32 if name == "labels" else np.float32)
        for name, value in parts.items()
    }
    return Prompt(**arrays)


def test_points_become_fractions_with_one_padding_point_behind() -> None:
    layout = lay_out(prompt(points=[[300, 100], [0, 400]], labels=[1, 0]), SIZE, LOW_RES)
    np.testing.assert_allclose(layout.point_coords[0, :3], [[0.5, 0.25], [0, 1], [0, 0]])
    assert layout.point_labels[0, :3].tolist() == [1, 0, -1]
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
    given = {"points": [[300, 200]] * points} | ({"box": [150, 80, 450, 320]} if box else {})
    layout = lay_out(prompt(**given), SIZE, LOW_RES)
    used = [2, 3] * box + [1] * points + [-1]
    assert layout.point_labels.tolist() == [used + [-2] * (slots - len(used))]
    assert layout.point_coords.shape == (1, slots, 2)
    assert not layout.point_coords[0, len(used) - 1 :].any()


def test_labels_mean_what_the_decoders_spec_says() -> None:
    for name in ("FOREGROUND", "BACKGROUND", "BOX_FIRST", "BOX_SECOND", "PADDING", "EMPTY"):
        assert getattr(prompts, name) == getattr(click_prompts, name)


def test_labels_left_out_are_foreground() -> None:
    layout = lay_out(prompt(points=[[1, 1], [2, 2]]), SIZE, LOW_RES)
    assert layout.point_labels[0, :3].tolist() == [1, 1, -1]


def test_a_box_comes_before_the_points() -> None:
    layout = lay_out(prompt(box=[150, 80, 450, 320], points=[[300, 200]], labels=[0]), SIZE, LOW_RES)
    assert layout.point_labels[0, :4].tolist() == [2, 3, 0, -1]
    np.testing.assert_allclose(layout.point_coords[0, :2], [[0.25, 0.2], [0.75, 0.8]])


def test_without_a_mask_input_zeros_are_laid_out_and_marked_absent() -> None:
    layout = lay_out(prompt(points=[[1, 1]]), SIZE, LOW_RES)
    assert layout.mask_input.shape == (1, 1, 96, 96)
    assert not layout.mask_input.any()
    assert layout.has_mask_input.tolist() == [[False]]


def test_a_mask_input_is_passed_on() -> None:
    mask = np.full((1, 96, 96), -3.5, np.float32)
    layout = lay_out(prompt(points=[[1, 1]], mask_input=mask), SIZE, LOW_RES)
    np.testing.assert_array_equal(layout.mask_input[0], mask)
    assert layout.has_mask_input.tolist() == [[True]]


@pytest.mark.parametrize(("multimask", "tokens"), [(False, [[0]]), (True, [[1, 2, 3]])])
def test_multimask_chooses_the_mask_tokens(multimask: bool, tokens: list) -> None:
    assert lay_out(prompt(points=[[1, 1]], multimask=multimask), SIZE, LOW_RES).mask_tokens.tolist() == tokens


@pytest.mark.parametrize("point", [[-1, -1], [601, 401], [600, 400]])
def test_a_pixel_outside_is_rounding(point: list[float]) -> None:
    lay_out(prompt(points=[point]), SIZE, LOW_RES)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"labels": [1]}, "without POINTS"),
        ({"points": [[1, 1]], "labels": [1, 0]}, "1 POINTS, but 2 LABELS"),
        ({"points": [[1, 1], [2, 2]], "labels": [1, 2]}, r"LABELS\[1\] is 2"),
        ({"points": [[1, 1]], "labels": [-1]}, r"LABELS\[0\] is -1"),
        ({"points": [[1, 1], [400, 401.5]]}, r"POINTS\[1\] is \(400, 401.5\), outside the image of 600 x 400"),
        ({"points": [[-1.5, 0]]}, r"POINTS\[0\].*outside"),
        ({"points": [[np.nan, 0]]}, "must be finite"),
        ({"points": [[0, np.inf]]}, "must be finite"),
        ({"box": [10, 10, 10, 20]}, "x1 < x2"),
        ({"box": [10, 30, 20, 20]}, "y1 < y2"),
        ({"box": [10, 10, 700, 20]}, "BOX .*outside"),
        ({"box": [10, np.nan, 20, 30]}, "must be finite"),
        (
            {"points": [[1, 1]], "mask_input": np.zeros((1, 95, 96))},
            r"\[1, 95, 96\], but this model takes \[1, 96, 96\]",
        ),
        ({"points": [[1, 1]], "mask_input": np.full((1, 96, 96), np.nan)}, "NaN or infinity"),
    ],
)
def test_a_bad_prompt_is_reported(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(PromptError, match=fault):
        lay_out(prompt(**parts), SIZE, LOW_RES)


@pytest.mark.parametrize(
    ("parts", "empty"),
    [
        ({}, True),
        ({"mask_input": np.zeros((1, 96, 96))}, True),
        ({"points": np.zeros((0, 2))}, True),
        ({"points": [[1, 1]]}, False),
        ({"box": [1, 1, 2, 2]}, False),
    ],
)
def test_a_prompt_without_points_and_box_is_empty(parts: dict[str, Any], empty: bool) -> None:
    assert prompt(**parts).is_empty == empty


def test_an_empty_prompt_is_laid_out_as_padding() -> None:
    layout = lay_out(Prompt(), SIZE, LOW_RES)
    assert layout.point_labels.tolist() == [[prompts.PADDING, *[prompts.EMPTY] * 7]]
    assert not layout.point_coords.any()
