"""The prompt for a concept: words, example boxes, or both, validated as far as possible without the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_triton.errors import InvalidInputError
from sam3_triton.prompts import floats, labels_of
from sam3_triton.wire import Arrays

DEFAULT_THRESHOLD = 0.5
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class ConceptPrompt:
    """What to find every instance of, and which instances to return.

    Attributes:
        text: a noun phrase; None without words.
        boxes: float32 [N, 4], x0, y0, x1, y1 of examples, in pixels of the original image; None without examples.
        box_labels: int32 [N], 1 "more like this", 0 "not this"; None without examples.
        threshold: instances are returned if their score is above it, 0..1.
        max_instances: at most this many, best first; None for all.
        nms_iou: an instance is dropped if the IoU of its mask with a better one's is above it; None keeps all.
        masks: whether masks are returned beside scores and boxes.
    """

    text: str | None
    boxes: np.ndarray | None
    box_labels: np.ndarray | None
    threshold: float
    max_instances: int | None
    nms_iou: float | None
    masks: bool

    @classmethod
    def of(
        cls,
        text: str | None = None,
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        box_labels: Sequence[int | bool] | np.ndarray | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        max_instances: int | None = None,
        nms_iou: float | None = None,
        masks: bool = True,
    ) -> ConceptPrompt:
        """Builds a prompt from lists or arrays. Box labels default to 1; True and False mean 1 and 0.

        Raises:
            InvalidInputError: there is neither text nor a box, or an argument is invalid.
        """
        checked_boxes = None if boxes is None else _boxes(boxes)
        if checked_boxes is not None and not len(checked_boxes):
            checked_boxes = None
        labels = labels_of(0 if checked_boxes is None else len(checked_boxes), "boxes", box_labels)
        if text is None and checked_boxes is None:
            raise InvalidInputError("no prompt: give a text or boxes")
        return cls(
            text=None if text is None else _text(text),
            boxes=checked_boxes,
            box_labels=None if checked_boxes is None else labels,
            threshold=_fraction("threshold", threshold),
            max_instances=None if max_instances is None else _count(max_instances),
            nms_iou=None if nms_iou is None else _fraction("nms_iou", nms_iou, above_zero=True),
            masks=masks,
        )

    @classmethod
    def each(cls, texts: Sequence[str | None], **options: Any) -> list[ConceptPrompt]:
        """Builds a prompt for each text, all with the same options: those of `of`.

        Raises:
            InvalidInputError: there is no text, or see `of`.
        """
        if not len(texts):
            raise InvalidInputError("no text: the list of texts is empty")
        return [cls.of(text, **options) for text in texts]

    def tensors(self, max_instances: int) -> Arrays:
        """The inputs of `sam3_concept`, by name, without the image."""
        inputs = {
            "THRESHOLD": np.array([self.threshold], np.float32),
            "MAX_INSTANCES": np.array([min(max_instances, _LARGEST_INT32)], np.int32),
            "WITH_MASKS": np.array([self.masks]),
        }
        if self.text is not None:
            inputs["TEXT"] = np.array([self.text.encode()], np.object_)
        if self.boxes is not None and self.box_labels is not None:
            inputs["BOXES"], inputs["BOX_LABELS"] = self.boxes, self.box_labels
        if self.nms_iou is not None:
            inputs["NMS_IOU"] = np.array([self.nms_iou], np.float32)
        return inputs


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidInputError(f"text must be a string, not {text!r}")
    if not text.strip():
        raise InvalidInputError("the text is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the text has half of a surrogate pair at character {error.start}") from error
    return text


def _boxes(boxes: Any) -> np.ndarray:
    array = floats("boxes", boxes, ("N", 4))
    for box in array.tolist():
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InvalidInputError(f"a box must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, not {box}")
    return array


def _fraction(name: str, value: Any, above_zero: bool = False) -> float:
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        number = float(value)
        if 0 <= number <= 1 and (number > 0 or not above_zero):
            return number
    raise InvalidInputError(f"{name} must be {'above 0 and at most 1' if above_zero else 'from 0 to 1'}, not {value!r}")


def _count(value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(f"max_instances must be an integer of at least 1, not {value!r}")
    return int(value)
