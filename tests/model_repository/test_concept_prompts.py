from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from concept_prompts import EMPTY, MAX_BOXES, ConceptPrompt, lay_out_concept
from prompts import PromptError

SIZE = (30, 40)  # height, width
BOX = [10, 6, 30, 24]


def laid_out(queries: int = 200, **parts: Any) -> Any:
    for name, dtype in (("boxes", np.float32), ("labels", np.int32)):
        if name in parts:
            parts[name] = np.array(parts[name], dtype)
    return lay_out_concept(ConceptPrompt(**parts), SIZE, queries)


def test_boxes_become_centres_and_sizes_in_fractions() -> None:
    layout = laid_out(boxes=[BOX, [0, 0, 4, 3]], labels=[1, 0])
    np.testing.assert_allclose(layout.box_coords[0, :2], [[0.5, 0.5, 0.5, 0.6], [0.05, 0.05, 0.1, 0.1]], rtol=1e-6)
    assert layout.box_labels[0].tolist() == [1, 0, *[EMPTY] * 6]
    assert not layout.box_coords[0, 2:].any()
    assert (layout.box_coords.dtype, layout.box_labels.dtype) == (np.float32, np.int32)


def test_without_boxes_all_slots_are_empty() -> None:
    for layout in (laid_out(), laid_out(boxes=np.zeros((0, 4)), labels=[])):
        assert layout.box_coords.shape == (1, 8, 4)
        assert layout.box_labels.tolist() == [[EMPTY] * 8]


def test_boxes_are_examples_unless_labels_say_otherwise() -> None:
    assert laid_out(boxes=[BOX]).box_labels[0, 0] == 1
    assert laid_out(boxes=[BOX], labels=[0]).box_labels[0, 0] == 0  # Meta's processor takes it, too


def test_a_box_may_overhang_the_image_and_is_not_clipped() -> None:
    layout = laid_out(boxes=[[-20, 0, 60, 30]])
    np.testing.assert_allclose(layout.box_coords[0, 0], [0.5, 0.5, 2, 1])


@pytest.mark.parametrize(("count", "slots"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32)])
def test_boxes_fill_slots(count: int, slots: int) -> None:
    layout = laid_out(boxes=[BOX] * count)
    assert layout.box_coords.shape == (1, slots, 4)
    assert (layout.box_labels != EMPTY).sum() == count


@pytest.mark.parametrize(
    ("most", "queries", "ranks"),
    [(1, 200, 32), (32, 200, 32), (33, 200, 64), (65, 200, 128), (129, 200, 200), (1000, 200, 200), (32, 20, 20)],
)
def test_ranks_come_in_tiers(most: int, queries: int, ranks: int) -> None:
    layout = laid_out(queries, max_instances=most)
    assert layout.ranks.tolist() == [list(range(ranks))]
    assert layout.ranks.dtype == np.int32
    assert layout.max_instances.tolist() == [min(most, queries)]


def test_boxes_alone_mean_visual() -> None:
    assert laid_out(boxes=[BOX]).text.tolist() == [b"visual"]
    assert laid_out(boxes=[BOX], text=b"A cat").text.tolist() == [b"A cat"]


def test_the_rest_passes_through() -> None:
    usual, other = laid_out(), laid_out(threshold=0.25, nms_iou=0.75, with_masks=False)
    for layout, values in ((usual, (0.5, 1.0, True)), (other, (0.25, 0.75, False))):
        found = (layout.threshold, layout.nms_iou, layout.with_masks)
        assert [array.tolist() for array in found] == [[value] for value in values]
        assert [array.dtype for array in found] == [np.float32, np.float32, bool]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"threshold": -0.1}, "THRESHOLD is -0.1, not from 0 to 1"),
        ({"threshold": 1.5}, "THRESHOLD is 1.5, not from 0 to 1"),
        ({"threshold": float("nan")}, "THRESHOLD is nan, not from 0 to 1"),
        ({"max_instances": 0}, "MAX_INSTANCES is 0, not at least 1"),
        ({"max_instances": -3}, "MAX_INSTANCES is -3, not at least 1"),
        ({"nms_iou": 0.0}, "NMS_IOU is 0, not above 0 and at most 1"),
        ({"nms_iou": 1.1}, "NMS_IOU is 1.1, not above 0 and at most 1"),
        ({"nms_iou": float("nan")}, "NMS_IOU is nan, not above 0 and at most 1"),
        ({"boxes": [BOX] * (MAX_BOXES + 1)}, "33 BOXES, but a request may have at most 32"),
        ({"labels": [1]}, "1 BOX_LABELS were given without BOXES"),
        ({"boxes": [BOX], "labels": [1, 0]}, "2 BOX_LABELS for 1 BOXES"),
        ({"boxes": [BOX, BOX], "labels": [1, 2]}, "BOX_LABELS[1] is 2; a label is 1 (more like this) or 0 (not this)"),
        ({"boxes": [[10, 6, 10, 24]]}, "BOXES[0] is (10, 6, 10, 24), not x1 < x2, y1 < y2"),
        ({"boxes": [BOX, [1, 2, float("inf"), 4]]}, "BOXES[1] is (1, 2, inf, 4); coordinates must be finite"),
        ({"boxes": [[40, 0, 50, 9]]}, "BOXES[0] is (40, 0, 50, 9), wholly outside the image of 40 x 30 pixels"),
        ({"boxes": [[0, 0, 1e6, 9]]}, "BOXES[0] is (0, 0, 1e+06, 9), more than 1000 times as large as the image of"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError) as caught:
        laid_out(**parts)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "empty"),
    [
        (ConceptPrompt(), True),
        (ConceptPrompt(boxes=np.zeros((0, 4), np.float32)), True),
        (ConceptPrompt(text=b""), False),
        (ConceptPrompt(boxes=np.array([BOX], np.float32)), False),
    ],
)
def test_a_prompt_needs_a_text_or_a_box(prompt: ConceptPrompt, empty: bool) -> None:
    assert prompt.is_empty == empty
