"""Checks the prompt for a concept and lays it out for the detector. Independent of Triton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from prompts import SLOT_COUNTS, PromptError, check_boxes

POSITIVE, NEGATIVE, EMPTY = 1, 0, -10
MAX_BOXES = SLOT_COUNTS[-1]
# Boxes and masks of at least this many queries are computed, or of twice, four times, ... as many: only requests for
# equally many share a batch. At SAM 3's own size the masks of 32 are 5.3 MB.
FEWEST_RANKS = 32
DEFAULT_THRESHOLD, DEFAULT_MAX_INSTANCES = 0.5, 32
# What Meta's processor asks for where only example boxes are given.
DEFAULT_TEXT = b"visual"
# Every mask's IoU with another one is at most 1.
NMS_OFF = 1.0


@dataclass(frozen=True)
class ConceptPrompt:
    """What to find; `None` for an input that was not given.

    text: UTF-8, which sam3_text_cache checks; boxes float [N, 4] as (x0, y0, x1, y1) in pixels of the original image;
    labels int [N], 1 for an example and 0 for a negative example; threshold: instances have a greater score;
    max_instances: how many of the best to return; nms_iou: the IoU with a better instance's mask above which an
    instance is dropped; with_masks: whether to draw masks.
    """

    text: bytes | None = None
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    threshold: float = DEFAULT_THRESHOLD
    max_instances: int = DEFAULT_MAX_INSTANCES
    nms_iou: float = NMS_OFF
    with_masks: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing about what to find."""
        return self.text is None and (self.boxes is None or not len(self.boxes))


@dataclass(frozen=True)
class ConceptLayout:
    """The detector's inputs, a batch of one image, and what the other models of `sam3_concept` need.

    text object [1]; box_coords float32 [1, N, 4] (centre x and y, width, height; fractions of the image) and box_labels
    int32 [1, N], where N is one of `SLOT_COUNTS`; ranks int32 [1, K]; threshold float32 [1], max_instances int32 [1],
    nms_iou float32 [1], with_masks bool [1].
    """

    text: np.ndarray
    box_coords: np.ndarray
    box_labels: np.ndarray
    ranks: np.ndarray
    threshold: np.ndarray
    max_instances: np.ndarray
    nms_iou: np.ndarray
    with_masks: np.ndarray


def lay_out_concept(prompt: ConceptPrompt, original_size: tuple[int, int], queries: int) -> ConceptLayout:
    """Checks a prompt and lays it out: the boxes in slots, and as many ranks as the instances may need.

    Args:
        original_size: (height, width) of the image in pixels.
        queries: how many queries the detector has, and so the most instances that it can find.

    Raises:
        PromptError: a part is invalid or does not fit the image.
    """
    if not 0 <= prompt.threshold <= 1:  # refuses NaN, too
        raise PromptError(f"THRESHOLD is {prompt.threshold:g}, not from 0 to 1")
    if prompt.max_instances < 1:
        raise PromptError(f"MAX_INSTANCES is {prompt.max_instances}, not at least 1")
    if not 0 < prompt.nms_iou <= 1:
        raise PromptError(f"NMS_IOU is {prompt.nms_iou:g}, not above 0 and at most 1")
    coords, labels = _in_slots(*_checked_examples(prompt, original_size))
    max_instances = min(prompt.max_instances, queries)
    return ConceptLayout(
        text=np.array([DEFAULT_TEXT if prompt.text is None else prompt.text], np.object_),
        box_coords=coords[None],
        box_labels=labels[None],
        ranks=np.arange(_rank_count(max_instances, queries), dtype=np.int32)[None],
        threshold=np.array([prompt.threshold], np.float32),
        max_instances=np.array([max_instances], np.int32),
        nms_iou=np.array([prompt.nms_iou], np.float32),
        with_masks=np.array([prompt.with_masks]),
    )


def _rank_count(max_instances: int, queries: int) -> int:
    count = FEWEST_RANKS
    while count < max_instances:
        count *= 2
    return min(count, queries)


def _checked_examples(prompt: ConceptPrompt, original_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 [N, 4] as (centre x, centre y, width, height) in fractions of the image, and labels int [N].

    As in Meta's processor, boxes may overhang the image and are not clipped, and all may be negative.
    """
    if prompt.boxes is None or not len(prompt.boxes):
        if prompt.labels is not None and len(prompt.labels):
            raise PromptError(f"{len(prompt.labels)} BOX_LABELS were given without BOXES")
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    count = len(prompt.boxes)
    if count > MAX_BOXES:
        raise PromptError(f"{count} BOXES, but a request may have at most {MAX_BOXES}")
    labels = np.full(count, POSITIVE) if prompt.labels is None else prompt.labels
    if len(labels) != count:
        raise PromptError(f"{len(labels)} BOX_LABELS for {count} BOXES")
    for index, label in enumerate(labels.tolist()):
        if label not in (POSITIVE, NEGATIVE):
            raise PromptError(f"BOX_LABELS[{index}] is {label}; a label is 1 (more like this) or 0 (not this)")
    check_boxes(prompt.boxes, original_size)
    height, width = original_size
    fractions = prompt.boxes / np.array([width, height, width, height], np.float32)
    first, second = fractions[:, :2], fractions[:, 2:]
    return np.concatenate([(first + second) / 2, second - first], axis=1), labels


def _in_slots(boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fills up boxes [N, 4] and labels [N] with empty slots."""
    slots = next(slots for slots in SLOT_COUNTS if len(labels) <= slots)
    slot_boxes, slot_labels = np.zeros((slots, 4), np.float32), np.full(slots, EMPTY, np.int32)
    slot_boxes[: len(boxes)], slot_labels[: len(labels)] = boxes, labels
    return slot_boxes, slot_labels
