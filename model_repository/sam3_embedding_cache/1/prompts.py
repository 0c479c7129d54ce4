"""Checks the prompts of an image's objects and lays them out as Meta's predictor does. Independent of Triton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING, EMPTY = 1, 0, 2, 3, -1, -2
# Only prompts of equal shape share a batch, so prompts are filled up to these lengths. The 8 slots, for up to seven
# points, cost a single click a few percent of decoding.
SLOT_COUNTS = (8, 16, 32)
# Of the decoder's four mask tokens, the first is for a single mask, the others for candidates.
SINGLE_TOKEN, CANDIDATE_TOKENS = [0], [1, 2, 3]
# How far outside the image's edges a point may lie, in pixels: enough for rounding errors, too little for
# coordinates of another image size.
MARGIN = 1.0
# The largest coordinate of a box, in widths or heights of the image. Boxes may overhang the image, but beyond this
# the sines of its coordinates in fp32 are noise, and finally infinite.
FARTHEST = 1000.0


class PromptError(ValueError):
    """An invalid prompt; the message names the problem."""


@dataclass(frozen=True)
class Prompt:
    """What to segment: P objects, in pixels of the original image; `None` for a part that was not given.

    points float [P, N, 2] as (x, y); labels int [P, N], -2 for an unused slot; boxes float [P, 4] as (x1, y1, x2, y2);
    mask_input float [P, h, w]; outside: whether points may lie anywhere outside the image.
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    mask_input: np.ndarray | None = None
    multimask: bool = False
    outside: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing about what to segment."""
        no_points = self.points is None or not self.points.size
        return no_points and self.boxes is None and self.mask_input is None


@dataclass(frozen=True)
class Layout:
    """The mask decoder's inputs, a batch of one image; N is one of `SLOT_COUNTS` or a multiple of the last.

    point_coords float32 [1, P, N, 2] (fractions of width and height), point_labels int32 [1, P, N],
    mask_input float32 [1, P or 1, h, w], has_mask_input bool [1, 1], mask_tokens int32 [1, M].
    """

    point_coords: np.ndarray
    point_labels: np.ndarray
    mask_input: np.ndarray
    has_mask_input: np.ndarray
    mask_tokens: np.ndarray


def check_size(prompt: Prompt, max_objects: int) -> None:
    """Checks that the decoder's memory for a prompt is bounded.

    Raises:
        PromptError: the prompt has more than `max_objects` objects, or more points than the largest of `SLOT_COUNTS`
            for each of that many objects.
    """
    objects = max(
        (len(part) for part in (prompt.points, prompt.boxes, prompt.mask_input) if part is not None), default=0
    )
    if objects > max_objects:
        raise PromptError(f"{objects} objects, but a request may have at most {max_objects}: send several requests")
    points, most = 0 if prompt.points is None else prompt.points[..., 0].size, max_objects * SLOT_COUNTS[-1]
    if points > most:
        raise PromptError(f"{points} points, but a request may have at most {most}")


def lay_out(prompt: Prompt, original_size: tuple[int, int], low_res_size: tuple[int, int]) -> Layout:
    """Checks a prompt and lays it out: for each object the box, then the points, one padding point, and empty slots.

    Args:
        original_size: (height, width) of the image in pixels.
        low_res_size: (height, width) of a mask input.

    Raises:
        PromptError: a part is invalid or does not fit the image.
    """
    objects = _count(prompt)
    coords, labels = _checked_points(prompt, objects, original_size)
    if prompt.boxes is not None:
        check_boxes(prompt.boxes, original_size)
        coords = np.concatenate([prompt.boxes.reshape(-1, 2, 2), coords], axis=1)  # each box as two corners
        labels = np.concatenate([np.tile([BOX_FIRST, BOX_SECOND], (objects, 1)), labels], axis=1)
    height, width = original_size
    mask = np.zeros((1, *low_res_size), np.float32)  # all objects share it
    if prompt.mask_input is not None:
        mask = _checked_masks(prompt.mask_input, objects, low_res_size)
    elif not prompt.is_empty:
        _check_each_has_points(labels)
    tokens = CANDIDATE_TOKENS if prompt.multimask else SINGLE_TOKEN
    point_coords, point_labels = _in_slots(coords / np.array([width, height], np.float32), labels)
    return Layout(
        point_coords=point_coords[None],
        point_labels=point_labels[None],
        mask_input=mask[None],
        has_mask_input=np.array([[prompt.mask_input is not None]]),
        mask_tokens=np.array([tokens], np.int32),
    )


def _count(prompt: Prompt) -> int:
    """The number of objects; 1 for an empty prompt."""
    parts = {"POINTS": prompt.points, "BOXES": prompt.boxes, "MASK_INPUT": prompt.mask_input}
    counts = {name: len(part) for name, part in parts.items() if part is not None}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} for {count}" for name, count in counts.items())
        raise PromptError(f"each part of a prompt must be for the same objects, not {told}")
    count = next(iter(counts.values()), 1)
    if not count and not prompt.is_empty:
        raise PromptError("the prompt is for 0 objects")
    return count or 1


def _in_slots(fractions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates float32 [P, N, 2] and labels int32 [P, N] of the points, the padding point and the empty slots."""
    objects, count = labels.shape
    needed, largest = count + 1, SLOT_COUNTS[-1]
    slots = next((slots for slots in SLOT_COUNTS if needed <= slots), -(-needed // largest) * largest)
    slot_coords, slot_labels = np.zeros((objects, slots, 2), np.float32), np.full((objects, slots), EMPTY, np.int32)
    used = labels != EMPTY
    slot_coords[:, :count][used], slot_labels[:, :count] = fractions[used], labels
    # Meta's predictor adds the padding point to points and boxes, but not to a mask input alone.
    slot_labels[:, count] = np.where(used.any(axis=1), PADDING, EMPTY)
    return slot_coords, slot_labels


def _checked_points(prompt: Prompt, objects: int, original_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [P, N, 2] in pixels and labels [P, N]."""
    if prompt.points is None or not prompt.points.size:
        if prompt.labels is not None and prompt.labels.size:
            raise PromptError(f"{prompt.labels.size} LABELS were given without POINTS")
        return np.zeros((objects, 0, 2), np.float32), np.zeros((objects, 0), np.int32)
    points = prompt.points
    labels = np.full(points.shape[:2], FOREGROUND) if prompt.labels is None else prompt.labels
    if labels.shape != points.shape[:2]:
        raise PromptError(
            f"LABELS must have the shape {list(points.shape[:2])} for these POINTS, not {list(labels.shape)}"
        )
    for index, label in np.ndenumerate(labels):
        if label == EMPTY:
            continue
        if label not in (FOREGROUND, BACKGROUND):
            raise PromptError(
                f"LABELS{list(index)} is {label}; a label is 1 (foreground), 0 (background) or -2 (an unused slot)"
            )
        _check_point(f"POINTS{list(index)}", points[index], original_size, prompt.outside)
    return points, labels


def check_boxes(boxes: np.ndarray, original_size: tuple[int, int]) -> None:
    """Checks boxes [N, 4]. A box may overhang the image, as detectors give it: Meta's code does not clip it.

    Raises:
        PromptError: a box is not finite, has no area, or lies outside the image.
    """
    height, width = original_size
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        told = f"BOXES[{index}] is ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not np.isfinite([x1, y1, x2, y2]).all():
            raise PromptError(f"{told}; coordinates must be finite")
        if x2 <= x1 or y2 <= y1:
            raise PromptError(f"{told}, not x1 < x2, y1 < y2")
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            raise PromptError(f"{told}, wholly outside the image of {width} x {height} pixels")
        if max(-x1, x2) > FARTHEST * width or max(-y1, y2) > FARTHEST * height:
            raise PromptError(
                f"{told}, more than {FARTHEST:g} times as large as the image of {width} x {height} pixels"
            )


def _checked_masks(masks: np.ndarray, objects: int, low_res_size: tuple[int, int]) -> np.ndarray:
    if masks.shape[1:] != tuple(low_res_size):
        raise PromptError(
            f"MASK_INPUT has the shape {list(masks.shape)}, but this model takes {[objects, *low_res_size]} "
            "(for each object, one candidate of LOW_RES_LOGITS)"
        )
    if not np.isfinite(masks).all():
        raise PromptError("MASK_INPUT holds NaN or infinity")
    return masks.astype(np.float32)


def _check_each_has_points(labels: np.ndarray) -> None:
    """Checks that no object among several has nothing but unused slots."""
    without = np.flatnonzero((labels == EMPTY).all(axis=1))
    if len(without):
        raise PromptError(f"object {without[0]} has no point, no box and no mask input")


def _check_point(name: str, point: np.ndarray, original_size: tuple[int, int], outside: bool) -> None:
    height, width = original_size
    x, y = (float(value) for value in point)
    if not (np.isfinite(x) and np.isfinite(y)):
        raise PromptError(f"{name} is ({x}, {y}); coordinates must be finite")
    margin_x, margin_y = (FARTHEST * width, FARTHEST * height) if outside else (MARGIN, MARGIN)
    if not (-margin_x <= x <= width + margin_x and -margin_y <= y <= height + margin_y):
        raise PromptError(f"{name} is ({x:g}, {y:g}), outside the image of {width} x {height} pixels")
