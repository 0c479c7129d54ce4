"""How far the instances that a server finds are from PyTorch's."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sam3_triton import ConceptPrompt, Instances, ServedModel
from sam3_triton.doctor.golden_concepts import GoldenConcept, _drift, _within

SIDE = 40
MASKS = np.zeros((3, SIDE, SIDE), bool)
MASKS[0, :10, :10] = MASKS[1, 20:30, 20:30] = MASKS[2, 5:35, 30:38] = True
BOXES = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [30, 5, 38, 35]], np.float32)
SCORES = np.array([0.9, 0.502, 0.5], np.float32)
CONCEPT = GoldenConcept("a text", ConceptPrompt.of("cup"), 0.75, SCORES, BOXES, MASKS)
SMALLEST = 1e-3


def png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def found(
    order: list[int], scores: np.ndarray = SCORES, boxes: np.ndarray = BOXES, masks: np.ndarray = MASKS
) -> Instances:
    return Instances(
        text="cup",
        presence=0.75,
        truncated=False,
        total=len(order),
        scores=scores[: len(order)],
        boxes=boxes[order],
        mask_pngs=tuple(png(masks[index]) for index in order),
        image_size=(SIDE, SIDE),
        image_id="an id",
        cache_hit=True,
        model=ServedModel("SAM 3", "0" * 64),
    )


def test_the_same_instances_do_not_drift() -> None:
    assert _drift(found([0, 1, 2]), CONCEPT, SMALLEST) == {"score": 0, "box": 0, "mask_iou": 1}


def test_instances_of_nearly_equal_scores_may_change_places() -> None:
    drift = _drift(found([0, 2, 1]), CONCEPT, SMALLEST)
    assert (drift["box"], drift["mask_iou"]) == (0, 1)
    assert drift["score"] == pytest.approx(0.002, rel=0.01)


def test_every_measure_counts() -> None:
    assert _drift(found([0, 1, 2], boxes=BOXES + 4), CONCEPT, SMALLEST)["box"] == pytest.approx(0.1)
    assert _drift(found([0, 1, 2], scores=SCORES - 0.25), CONCEPT, SMALLEST)["score"] == pytest.approx(0.25)
    assert _drift(replace(found([0, 1, 2]), presence=0.5), CONCEPT, SMALLEST)["score"] == pytest.approx(0.25)
    shifted = np.roll(MASKS, 5, axis=1)
    assert _drift(found([0, 1, 2], masks=shifted), CONCEPT, SMALLEST)["mask_iou"] == pytest.approx(1 / 3)


def test_a_missing_instance_drifts_wholly() -> None:
    assert _drift(found([0, 1]), CONCEPT, SMALLEST)["mask_iou"] == 0
    assert _drift(found([]), CONCEPT, SMALLEST)["score"] == float("inf")


def test_masks_of_a_few_pixels_are_not_compared() -> None:
    tiny = np.zeros_like(MASKS)
    tiny[0, 0, 0] = True
    other = np.zeros_like(MASKS)
    concept = replace(CONCEPT, masks=tiny)
    assert _drift(found([0, 1, 2], masks=other), concept, SMALLEST)["mask_iou"] == 1
    assert _drift(found([0, 1, 2], masks=other), concept, 1e-4)["mask_iou"] == 0


def test_nan_is_within_no_tolerance() -> None:
    bounds = {"score": 0.01, "box": 0.01, "mask_iou": 0.98}
    assert _within({"score": 0.0, "box": 0.0, "mask_iou": 1.0}, bounds)
    for name in bounds:
        assert not _within({"score": 0.0, "box": 0.0, "mask_iou": 1.0, name: float("nan")}, bounds)
    drift = _drift(found([0, 1, 2], scores=np.full(3, np.nan, np.float32)), CONCEPT, SMALLEST)
    assert not _within(drift, bounds)
