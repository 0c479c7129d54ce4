"""The figures that decide whether the concept half is good enough, and the assignment of slots to objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sam3_demo.concepts.evaluate import measure
from sam3_demo.concepts.finder import Found
from sam3_demo.concepts.matching import generalised_iou, match
from sam3_demo.concepts.measures import Tally, pairs
from sam3_demo.concepts.samples import Query
from sam3_demo.concepts.scenes import make_shape_scene
from sam3_demo.pool import SCENE_SIZE

SCENES = 8


def strips(*spans: tuple[int, int]) -> np.ndarray:
    """Masks [n, 4, 20] that cover some columns."""
    masks = np.zeros((len(spans), 4, 20), bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[:, start:stop] = True
    return masks


def test_an_object_counts_once_and_needs_half_of_the_union() -> None:
    targets = strips((0, 8), (10, 14))
    # Half of the first object is just enough; the second answer has the same object; the third covers too much.
    assert pairs(strips((0, 4), (0, 8), (8, 20)), targets) == [(0, 0)]
    assert pairs(strips((10, 14), (0, 8)), targets) == [(0, 1), (1, 0)]
    assert pairs(strips(), targets) == pairs(targets, strips()) == []


def test_f1_counts_misses_and_wrong_answers() -> None:
    tally = Tally()
    tally.add(right=2, found=3, wanted=4)
    tally.add(right=0, found=1, wanted=0)
    assert tally.f1 == pytest.approx(4 / 8)


class Oracle:
    """Answers rightly, except that it does or does not read the phrase."""

    def __init__(self, reads: bool) -> None:
        self.reads = reads
        self.scenes = {}
        for seed in range(SCENES):
            scene = make_shape_scene(seed, SCENE_SIZE)
            self.scenes[scene.image.tobytes()] = scene

    def look_at(self, image: np.ndarray) -> None:
        self.scene = self.scenes[image.tobytes()]

    def find(self, query: Query) -> Found:
        matching = query.matching if self.reads else np.ones_like(query.matching)
        numbers = np.flatnonzero(matching) + 1
        masks = self.scene.objects[None] == numbers[:, None, None]
        return Found(masks, np.ones(len(masks)), self.scene.boxes[matching], float(matching.any()))


def test_a_right_answer_has_full_marks_and_one_that_ignores_the_phrase_has_not() -> None:
    assert set(measure(Oracle(reads=True), SCENES).values()) == {1.0}
    deaf = measure(Oracle(reads=False), SCENES)
    assert deaf["presence"] == 0.5
    assert deaf["swap"] == 0
    assert deaf["f1_single"] < 0.6


def test_generalised_iou_of_boxes() -> None:
    left = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.125, 0.5, 0.25, 1.0]])
    right = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.875, 0.5, 0.25, 1.0]])
    torch.testing.assert_close(generalised_iou(left, right), torch.tensor([1.0, -0.5]))


def test_slots_are_matched_to_the_nearest_objects() -> None:
    slots = torch.tensor([[[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.52, 0.5, 0.2, 0.2], [0.9, 0.9, 0.2, 0.2]]])
    objects = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.9, 0.8, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]]])
    wanted = torch.tensor([[True, True, False]])
    logits = torch.zeros(1, 4)
    rows, found, numbers = match(logits, slots, objects, wanted, copies=1)
    assert (rows.tolist(), found.tolist(), numbers.tolist()) == ([0, 0], [1, 3], [0, 1])
    # A surer slot wins over one that is a little nearer.
    logits[0, 2] = 3
    assert match(logits, slots, objects, wanted, copies=1)[1].tolist() == [2, 3]
    assert sorted(match(logits, slots, objects, wanted & torch.tensor([[True, False, False]]), 2)[1].tolist()) == [1, 2]
    assert len(match(logits, slots, objects, torch.zeros_like(wanted), copies=1)[0]) == 0
