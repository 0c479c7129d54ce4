"""Checks a prompt and lays it out as Meta's predictor does. Independent of Triton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING, EMPTY = 1, 0, 2, 3, -1, -2
# Only prompts of equal shape share a batch, so prompts are filled up to these lengths. The 8 slots, for up to seven
# points, cost a single click a few percent of decoding.
SLOT_COUNTS = (8, 16, 32)
# Of the decoder's four mask tokens, the first is for a single mask, the others for candidates.
SINGLE_TOKEN, CANDIDATE_TOKENS = [0], [1, 2, 3]
# How far outside the image's edges a coordinate may lie, in pixels: enough for rounding errors, too little for
# coordinates of another image size.
MARGIN = 1.0


class PromptError(ValueError):
    """An invalid prompt; the message names the problem."""


@dataclass(frozen=True)
class Prompt:
    """A prompt in pixels of the original image; `None` for a part that was not given.

    points float [N, 2] as (x, y), labels int [N], box float [4] as (x1, y1, x2, y2),
    mask_input float [1, h, w].
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask_input: np.ndarray | None = None
    multimask: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it has neither points nor a box; a mask alone does not say what to segment."""
        return self.box is None and (self.points is None or not len(self.points))


@dataclass(frozen=True)
class Layout:
    """The mask decoder's inputs, a batch of one; N is one of `SLOT_COUNTS` or a multiple of the last.

    point_coords float32 [1, N, 2] (fractions of width and height), point_labels int32 [1, N],
    mask_input float32 [1, 1, h, w], has_mask_input bool [1, 1], mask_tokens int32 [1, M].
    """

    point_coords: np.ndarray
    point_labels: np.ndarray
    mask_input: np.ndarray
    has_mask_input: np.ndarray
    mask_tokens: np.ndarray


def lay_out(prompt: Prompt, original_size: tuple[int, int], low_res_size: tuple[int, int]) -> Layout:
    """Checks a prompt and lays it out: the box first, then the points, one padding point, and empty slots.

    Args:
        original_size: (height, width) of the image in pixels.
        low_res_size: (height, width) of a mask input.

    Raises:
        PromptError: a part is invalid or does not fit the image.
    """
    coords, labels = _checked_points(prompt, original_size)
    if prompt.box is not None:
        coords = np.concatenate([_checked_box(prompt.box, original_size), coords])
        labels = np.concatenate([[BOX_FIRST, BOX_SECOND], labels])
    height, width = original_size
    fractions = coords / np.array([width, height], np.float32)
    mask = np.zeros((1, *low_res_size), np.float32)
    if prompt.mask_input is not None:
        mask = _checked_mask(prompt.mask_input, low_res_size)
    tokens = CANDIDATE_TOKENS if prompt.multimask else SINGLE_TOKEN
    point_coords, point_labels = _in_slots(fractions, labels)
    return Layout(
        point_coords=point_coords[None],
        point_labels=point_labels[None],
        mask_input=mask[None],
        has_mask_input=np.array([[prompt.mask_input is not None]]),
        mask_tokens=np.array([tokens], np.int32),
    )


def _in_slots(fractions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates float32 [N, 2] and labels int32 [N] of the points, the padding point and the empty slots."""
    count, largest = len(labels), SLOT_COUNTS[-1]
    needed = count + 1
    slots = next((slots for slots in SLOT_COUNTS if needed <= slots), -(-needed // largest) * largest)
    slot_coords, slot_labels = np.zeros((slots, 2), np.float32), np.full(slots, EMPTY, np.int32)
    slot_coords[:count], slot_labels[:count], slot_labels[count] = fractions, labels, PADDING
    return slot_coords, slot_labels


def _checked_points(prompt: Prompt, original_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    if prompt.points is None:
        if prompt.labels is not None and len(prompt.labels):
            raise PromptError(f"{len(prompt.labels)} LABELS were given without POINTS")
        return np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    points = prompt.points
    labels = np.full(len(points), FOREGROUND) if prompt.labels is None else prompt.labels
    if len(labels) != len(points):
        raise PromptError(f"{len(points)} POINTS, but {len(labels)} LABELS")
    for index, point in enumerate(points):
        _check_inside(f"POINTS[{index}]", point, original_size)
    for index, label in enumerate(labels):
        if label not in (FOREGROUND, BACKGROUND):
            raise PromptError(f"LABELS[{index}] is {label}; a label is 1 (foreground) or 0 (background)")
    return points, labels


def _checked_box(box: np.ndarray, original_size: tuple[int, int]) -> np.ndarray:
    corners = box.reshape(2, 2)
    for name, corner in zip(("BOX (x1, y1)", "BOX (x2, y2)"), corners, strict=True):
        _check_inside(name, corner, original_size)
    if (corners[1] <= corners[0]).any():
        raise PromptError(f"BOX {box.tolist()} is not x1 < x2, y1 < y2")
    return corners


def _checked_mask(mask: np.ndarray, low_res_size: tuple[int, int]) -> np.ndarray:
    if mask.shape != (1, *low_res_size):
        raise PromptError(
            f"MASK_INPUT has the shape {list(mask.shape)}, but this model takes {[1, *low_res_size]} "
            "(one row of LOW_RES_LOGITS)"
        )
    if not np.isfinite(mask).all():
        raise PromptError("MASK_INPUT holds NaN or infinity")
    return mask.astype(np.float32)


def _check_inside(name: str, point: np.ndarray, original_size: tuple[int, int]) -> None:
    height, width = original_size
    x, y = (float(value) for value in point)
    if not (np.isfinite(x) and np.isfinite(y)):
        raise PromptError(f"{name} is ({x}, {y}); coordinates must be finite")
    if not (-MARGIN <= x <= width + MARGIN and -MARGIN <= y <= height + MARGIN):
        raise PromptError(f"{name} is ({x:g}, {y:g}), outside the image of {width} x {height} pixels")
