"""The prompt for an object: points, box and mask, validated as far as possible without the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_triton.errors import InvalidInputError

FOREGROUND, BACKGROUND = 1, 0


@dataclass(frozen=True)
class Prompt:
    """One object to segment, in pixels of the original image, origin top left.

    Attributes:
        points: float32 [N, 2], (x, y); None without points.
        labels: int32 [N], 1 foreground or 0 background; None without points.
        box: float32 [4], (x1, y1, x2, y2); None without a box. It may overhang the image.
        mask_input: float32 [1, h, w], one row of an earlier answer's low-resolution logits; None without a mask.
        multimask: True requests three candidates instead of one mask.
        points_outside: True lets points lie outside the image, where the server takes them for a mistake otherwise.
    """

    points: np.ndarray | None
    labels: np.ndarray | None
    box: np.ndarray | None
    mask_input: np.ndarray | None
    multimask: bool
    points_outside: bool = False

    @classmethod
    def of(
        cls,
        points: Sequence[Sequence[float]] | np.ndarray | None = None,
        labels: Sequence[int | bool] | np.ndarray | None = None,
        box: Sequence[float] | np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask: bool = False,
        points_outside: bool = False,
    ) -> Prompt:
        """Builds a prompt from lists or arrays. Labels default to foreground; True and False mean 1 and 0.

        Raises:
            InvalidInputError: there is no point, box or mask, or an argument has a wrong shape or invalid values.
        """
        checked_points = None if points is None else floats("points", points, ("N", 2))
        if checked_points is not None and not len(checked_points):
            checked_points = None
        checked_labels = labels_of(0 if checked_points is None else len(checked_points), "points", labels)
        checked_box = None if box is None else _box(box)
        mask = None if mask_input is None else _mask(mask_input)
        if checked_points is None and checked_box is None and mask is None:
            raise InvalidInputError("no prompt: give points, a box or a mask input")
        if checked_points is None:
            return cls(None, None, checked_box, mask, multimask, points_outside)
        return cls(checked_points, checked_labels, checked_box, mask, multimask, points_outside)

    @classmethod
    def each(
        cls,
        points: Sequence[Any] | np.ndarray | None = None,
        labels: Sequence[Any] | np.ndarray | None = None,
        boxes: Sequence[Any] | np.ndarray | None = None,
        mask_inputs: Sequence[np.ndarray] | np.ndarray | None = None,
        multimask: bool = False,
    ) -> list[Prompt]:
        """Builds the prompts of several objects; each argument is a list with that of `of` for each object.

        Raises:
            InvalidInputError: the lists differ in length or are empty, or see `of`; the message names the object.
        """
        lists = {"points": points, "labels": labels, "boxes": boxes, "mask_inputs": mask_inputs}
        counts = {name: _length(name, values) for name, values in lists.items() if values is not None}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise InvalidInputError(f"the lists must have one entry for each object, not {told}")
        count = next(iter(counts.values()), 0)
        if not count:
            raise InvalidInputError("no prompt: give points, boxes or mask inputs")
        prompts = []
        for index in range(count):
            own, own_labels, box, mask = (None if values is None else values[index] for values in lists.values())
            try:
                prompts.append(cls.of(own, own_labels, box, mask, multimask))
            except InvalidInputError as error:
                raise InvalidInputError(f"object {index}: {error}") from error
        return prompts


def _length(name: str, values: Any) -> int:
    try:
        return len(values)
    except TypeError as error:
        raise InvalidInputError(f"{name} must be a list with an entry for each object, not {values!r}") from error


def floats(name: str, values: Any, shape: tuple[Any, ...]) -> np.ndarray:
    """Returns the values as float32 of a shape, whose axes are numbers or, where any length will do, names.

    Raises:
        InvalidInputError: they are no finite numbers, or have another shape.
    """
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{name} must be numbers in the shape {_shown(shape)}, not {values!r}") from error
    if array.size == 0 and shape[0] == "N":
        return array.reshape(0, *shape[1:])
    if array.ndim != len(shape) or any(
        isinstance(wanted, int) and found != wanted for found, wanted in zip(array.shape, shape, strict=True)
    ):
        raise InvalidInputError(f"{name} must have the shape {_shown(shape)}, not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} must be finite, not {array.tolist()}")
    return array


def labels_of(count: int, noun: str, labels: Any) -> np.ndarray:
    """Returns the labels of `count` points or boxes as int32 [count]. Default: all 1.

    Raises:
        InvalidInputError: they are not 0 or 1, or of another count.
    """
    if labels is None:
        return np.full(count, FOREGROUND, np.int32)
    try:
        array = np.asarray(labels)
        integers = array.astype(np.int32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"labels must be a list of 0 and 1, not {labels!r}") from error
    if array.ndim != 1:
        raise InvalidInputError(f"labels must be a list of 0 and 1, not {labels!r}")
    if len(array) != count:
        raise InvalidInputError(f"{count} {noun}, but {len(array)} labels")
    for label in array.tolist():
        if label not in (FOREGROUND, BACKGROUND):
            raise InvalidInputError(f"a label must be 1 (foreground) or 0 (background), not {label!r}")
    return integers


def _box(box: Any) -> np.ndarray:
    array = floats("box", box, (4,))
    if array[2] <= array[0] or array[3] <= array[1]:
        raise InvalidInputError(f"box must be x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {array.tolist()}")
    return array


def _mask(mask: Any) -> np.ndarray:
    array = np.asarray(mask)
    return floats("mask_input", array[None] if array.ndim == 2 else array, (1, "h", "w"))


def _shown(shape: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"
