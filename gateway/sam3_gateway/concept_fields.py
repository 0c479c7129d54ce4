"""Builds concept prompts from the form fields of /v1/concepts."""

from __future__ import annotations

from dataclasses import dataclass

from sam3_triton import ConceptPrompt, InvalidInputError

from sam3_gateway import forms
from sam3_gateway.answers import InstanceMaskFormat

# Of one request. The server cuts a text at 32 tokens and takes as many boxes.
MAX_TEXTS, MAX_CHARACTERS, MAX_BOXES = 16, 10_000, 32


@dataclass(frozen=True)
class ConceptFields:
    """The fields as texts; an empty one is missing, because HTML forms send empty fields."""

    texts: str
    boxes: str
    box_labels: str
    threshold: str
    max_instances: str
    nms_iou: str
    masks: InstanceMaskFormat

    def prompts(self) -> list[ConceptPrompt]:
        """A prompt for each text; one, if there are only boxes.

        Raises:
            InvalidInputError: a field is invalid, or there are too many texts, characters or boxes.
        """
        return ConceptPrompt.each(
            _texts(self.texts) if self.texts else [None],
            boxes=_boxes(self.boxes) if self.boxes else None,
            box_labels=forms.parse_labels(self.box_labels, "box_labels") if self.box_labels else None,
            threshold=_number("threshold", self.threshold),
            max_instances=_integer("max_instances", self.max_instances) if self.max_instances else None,
            nms_iou=_number("nms_iou", self.nms_iou) if self.nms_iou else None,
            masks=self.masks is not InstanceMaskFormat.none,
        )


def _texts(field: str) -> list[str]:
    """A JSON list of texts, or one text as it is. What begins with a bracket is JSON."""
    texts = forms.parse_json("texts", field) if field.lstrip().startswith("[") else [field]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInputError(f"texts must be a JSON list of strings, or one text, not {forms.shortened(field)}")
    if len(texts) > MAX_TEXTS:
        raise InvalidInputError(f"too many texts: {len(texts)}; at most {MAX_TEXTS} are accepted")
    longest = max(map(len, texts), default=0)
    if longest > MAX_CHARACTERS:
        raise InvalidInputError(f"a text has {longest} characters; at most {MAX_CHARACTERS} are accepted")
    return texts


def _boxes(field: str) -> list[list[float]]:
    boxes = forms.parse_boxes(field)
    if len(boxes) > MAX_BOXES:
        raise InvalidInputError(f"too many boxes: {len(boxes)}; at most {MAX_BOXES} are accepted")
    return boxes


def _number(name: str, field: str) -> float:
    try:
        return float(field)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be a number, not {forms.shortened(field)}") from error


def _integer(name: str, field: str) -> int:
    try:
        return int(field)
    except ValueError as error:
        raise InvalidInputError(f"{name} must be an integer, not {forms.shortened(field)}") from error
