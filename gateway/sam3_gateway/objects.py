"""Builds prompts from the form fields of /v1/predict: of one object, or of several."""

from __future__ import annotations

from dataclasses import dataclass

from sam3_triton import InvalidInputError, Prompt

from sam3_gateway import forms


@dataclass(frozen=True)
class PromptFields:
    """The fields as texts; an empty one is missing, because HTML forms send empty fields."""

    points: str
    labels: str
    box: str
    boxes: str
    mask_input: str
    multimask: str

    def are_of_several(self) -> bool:
        """Whether the fields are lists with an entry for each object. A list of one object counts, too.

        Raises:
            InvalidInputError: `points` is not JSON.
        """
        nested = bool(self.points) and forms.are_point_sets(self.points)
        return nested or bool(self.boxes) or self.mask_input.lstrip().startswith("[")

    def prompt(self, max_points: int) -> Prompt:
        """The prompt of one object.

        Raises:
            InvalidInputError: a field is invalid.
        """
        return Prompt.of(
            points=forms.parse_points(self.points, max_points) if self.points else None,
            labels=forms.parse_labels(self.labels) if self.labels else None,
            box=forms.parse_box(self.box) if self.box else None,
            mask_input=forms.parse_logits(self.mask_input) if self.mask_input else None,
            multimask=forms.parse_flag("multimask", self.multimask),
        )

    def prompts(self, max_points: int) -> list[Prompt]:
        """The prompts of several objects; `max_points` is for each.

        Raises:
            InvalidInputError: a field is invalid, or the fields are of different numbers of objects.
        """
        if self.box:
            raise InvalidInputError("box is for one object; give boxes for several")
        return Prompt.each(
            points=forms.parse_point_sets(self.points, max_points) if self.points else None,
            labels=forms.parse_label_sets(self.labels) if self.labels else None,
            boxes=forms.parse_boxes(self.boxes) if self.boxes else None,
            mask_inputs=forms.parse_logits_sets(self.mask_input) if self.mask_input else None,
            multimask=forms.parse_flag("multimask", self.multimask),
        )
