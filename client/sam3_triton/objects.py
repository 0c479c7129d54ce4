"""Puts the prompts of an image's objects into the tensors of one request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3_triton.errors import InvalidInputError
from sam3_triton.prompts import Prompt
from sam3_triton.wire import Arrays

# The label of an unused slot, with which prompts of fewer points are filled up.
_UNUSED = -2


def tensors_of(prompts: Sequence[Prompt]) -> Arrays:
    """The inputs of `sam3` for P objects, by name (docs/tensors.md).

    Raises:
        InvalidInputError: there is none, or they cannot share a request: only some have a box or a mask input, or they
            differ in multimask or in the size of their mask inputs.
    """
    if not prompts:
        raise InvalidInputError("no prompt: the list of objects is empty")
    if len({(prompt.multimask, prompt.points_outside) for prompt in prompts}) > 1:
        raise InvalidInputError("the objects of a request must have the same multimask and points_outside")
    inputs = {"MULTIMASK": np.array([prompts[0].multimask])}
    if prompts[0].points_outside:
        inputs["POINTS_OUTSIDE"] = np.array([True])
    boxes = _of_all("box", [prompt.box for prompt in prompts])
    if boxes:
        inputs["BOXES"] = np.stack(boxes)
    masks = _of_all("mask input", [prompt.mask_input for prompt in prompts])
    if masks:
        if len({mask.shape for mask in masks}) > 1:
            raise InvalidInputError("the mask inputs of a request must have the same size")
        inputs["MASK_INPUT"] = np.concatenate(masks)
    return {**inputs, **_points(prompts)}


def _of_all(name: str, parts: list[np.ndarray | None]) -> list[np.ndarray]:
    given = [part for part in parts if part is not None]
    if given and len(given) < len(parts):
        without = next(index for index, part in enumerate(parts) if part is None)
        raise InvalidInputError(
            f"object {without} has no {name}, but others have: the objects of a request need one each, or none"
        )
    return given


def _points(prompts: Sequence[Prompt]) -> Arrays:
    """POINTS [P, N, 2] and LABELS [P, N], where N is the largest number of points; nothing if no object has any."""
    most = max(0 if prompt.points is None else len(prompt.points) for prompt in prompts)
    if not most:
        return {}
    points = np.zeros((len(prompts), most, 2), np.float32)
    labels = np.full((len(prompts), most), _UNUSED, np.int32)
    for index, prompt in enumerate(prompts):
        if prompt.points is not None:
            points[index, : len(prompt.points)] = prompt.points
            labels[index, : len(prompt.points)] = prompt.labels
    return {"POINTS": points, "LABELS": labels}
