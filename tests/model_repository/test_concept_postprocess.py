from __future__ import annotations

import binary_masks
import numpy as np
import pytest
from concept_postprocess import select, to_pixels
from repository import PROJECT

SCORES = np.array([0.9, 0.7, 0.5, 0.5, 0.1], np.float32)


def squares(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Logits fp16 [K, 16, 16], positive inside each box (x0, y0, x1, y1)."""
    logits = np.full((len(boxes), 16, 16), -4, np.float16)
    for mask, (x0, y0, x1, y1) in zip(logits, boxes, strict=True):
        mask[y0:y1, x0:x1] = 4
    return logits


APART = squares((0, 0, 4, 4), (4, 4, 8, 8), (8, 8, 12, 12), (12, 12, 16, 16), (0, 12, 4, 16))


@pytest.mark.parametrize(
    ("threshold", "most", "ranks", "total"),
    [
        (0.5, 32, [0, 1], 2),  # strictly above
        (0.49, 32, [0, 1, 2, 3], 4),
        (0.49, 3, [0, 1, 2], 4),
        (0.95, 32, [], 0),
        (0.0, 32, [0, 1, 2, 3, 4], 5),
    ],
)
def test_instances_are_above_the_threshold(threshold: float, most: int, ranks: list[int], total: int) -> None:
    for iou in (1.0, 0.9):  # nothing overlaps
        found, count = select(SCORES, APART, threshold, most, iou)
        assert (found.tolist(), count) == (ranks, total)


def test_no_more_instances_than_masks() -> None:
    found, total = select(SCORES, APART[:3], 0.0, 32, 1.0)
    assert (found.tolist(), total) == ([0, 1, 2], 5)


def test_the_threshold_is_compared_in_the_precision_of_scores() -> None:
    score = np.array([0.1], np.float32)
    assert select(score, APART, np.float32(0.1), 32, 1.0)[1] == 0


@pytest.mark.parametrize(
    ("iou", "ranks"),
    [
        (1.0, [0, 1, 2, 3]),
        (0.9, [0, 1, 2]),  # 3 is equal to 0
        (0.75, [0, 1, 2]),  # 1 covers 12 of the 16 pixels of 0: not more than 0.75
        (0.74, [0, 2]),
    ],
)
def test_duplicates_of_better_instances_are_dropped(iou: float, ranks: list[int]) -> None:
    logits = squares((0, 0, 4, 4), (0, 0, 4, 3), (8, 8, 12, 12), (0, 0, 4, 4))
    assert select(np.array([0.9, 0.8, 0.7, 0.6], np.float32), logits, 0.5, 32, iou)[0].tolist() == ranks


def test_what_was_dropped_drops_nothing() -> None:
    logits = squares((0, 0, 4, 4), (2, 0, 6, 4), (5, 0, 9, 4))  # the second overlaps both others
    assert select(np.array([0.9, 0.8, 0.7], np.float32), logits, 0.5, 32, 0.1)[0].tolist() == [0, 2]


def test_suppression_considers_the_best_alone() -> None:
    logits = squares((0, 0, 4, 4), (0, 0, 4, 4), (8, 8, 12, 12))
    found, total = select(np.array([0.9, 0.8, 0.7], np.float32), logits, 0.5, 2, 0.5)
    assert (found.tolist(), total) == ([0], 3)


def test_empty_masks_are_no_duplicates() -> None:
    logits = np.full((2, 4, 4), -1, np.float16)
    assert select(np.array([0.9, 0.8], np.float32), logits, 0.5, 32, 0.5)[0].tolist() == [0, 1]


def test_boxes_become_corners_in_pixels_and_are_not_clipped() -> None:
    boxes = np.array([[0.5, 0.5, 0.5, 0.2], [0.9, 0.1, 0.4, 0.4]], np.float32)
    found = to_pixels(boxes, (100, 200))
    np.testing.assert_allclose(found, [[50, 40, 150, 60], [140, -10, 220, 30]], rtol=1e-5)
    assert found.dtype == np.float32
    assert to_pixels(boxes[:0], (100, 200)).shape == (0, 4)


def test_both_postprocessing_models_draw_with_one_file() -> None:
    link = PROJECT / "model_repository" / "sam3" / "concepts" / "sam3_concept_postprocess" / "1" / "binary_masks.py"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == (PROJECT / "model_repository/sam3_mask_postprocess/1/binary_masks.py").resolve()


def test_logits_are_resized_by_half_pixels() -> None:
    logits = np.array([[-1, 3], [-1, 3]], np.float32)
    mask = binary_masks.to_binary(logits, (2, 8))
    # The value at x is -1 before the first centre (x = 1.5 of 8) and rises by 1 a pixel: 0 at 2.5.
    assert mask.tolist() == [[0, 0, 0, 255, 255, 255, 255, 255]] * 2
