"""Parses form fields, which are text."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

import numpy as np
from sam3_triton import InvalidInputError

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


def parse_points(text: str, most: int) -> list[Any]:
    """Parses JSON `[[x, y], ...]` or flat `[x, y, ...]` to a list of pairs.

    Args:
        most: the largest number of points.

    Raises:
        InvalidInputError: the text is not JSON, has another form, or has too many points.
    """
    values = parse_json("points", text)
    if not isinstance(values, list) or not values:
        raise InvalidInputError(f"points must be a JSON list [[x, y], ...], not {shortened(text)}")
    return _pairs(values, most)


def parse_point_sets(text: str, most: int) -> list[Any]:
    """Parses JSON `[[[x, y], ...], ...]`, the points of each object, to lists of pairs. An object may have none.

    Args:
        most: the largest number of points of one object.

    Raises:
        InvalidInputError: the text is not JSON, has another form, or has too many points.
    """
    values = parse_json("points", text)
    if not isinstance(values, list) or not all(isinstance(value, list) for value in values):
        raise InvalidInputError(
            f"the points of several objects must be a JSON list [[[x, y], ...], ...], not {shortened(text)}"
        )
    return [_pairs(value, most) for value in values]


def are_point_sets(text: str) -> bool:
    """Whether a text is JSON with the points of several objects, `[[[x, y], ...], ...]`.

    Raises:
        InvalidInputError: the text is not JSON.
    """
    values = parse_json("points", text)
    return isinstance(values, list) and any(
        isinstance(value, list) and any(isinstance(part, list) for part in value) for value in values
    )


def _pairs(values: list[Any], most: int) -> list[Any]:
    pairs = _split(values)
    if len(pairs) > most:
        raise InvalidInputError(f"too many points: {len(pairs)}; at most {most} are accepted")
    return pairs


def _split(values: list[Any]) -> list[Any]:
    if all(_is_number(value) for value in values):
        if len(values) % 2:
            raise InvalidInputError(f"a flat list of points must have an even number of values, not {len(values)}")
        return [values[start : start + 2] for start in range(0, len(values), 2)]
    for value in values:
        if not _is_numbers(value, 2):
            raise InvalidInputError(f"each point must be [x, y], not {shortened(json.dumps(value))}")
    return values


def parse_labels(text: str, name: str = "labels") -> list[Any]:
    """Parses a JSON list, or one number, to a list. The name is that of the field.

    Raises:
        InvalidInputError: the text is not JSON, or has another form.
    """
    values = parse_json(name, text)
    if _is_label(values):
        return [values]
    if not _is_labels(values):
        raise InvalidInputError(f"{name} must be a JSON list of 0 and 1, or one of them, not {shortened(text)}")
    return list(values)


def parse_label_sets(text: str) -> list[Any]:
    """Parses JSON `[[1, 0, ...], ...]`, the labels of each object, to lists.

    Raises:
        InvalidInputError: the text is not JSON, or has another form.
    """
    values = parse_json("labels", text)
    if not isinstance(values, list) or not all(_is_labels(value) for value in values):
        raise InvalidInputError(
            f"the labels of several objects must be a JSON list [[1, 0, ...], ...], not {shortened(text)}"
        )
    return values


def parse_box(text: str) -> list[Any]:
    """Parses JSON `[x1, y1, x2, y2]` to a list.

    Raises:
        InvalidInputError: the text is not JSON, or has another form.
    """
    values = parse_json("box", text)
    if not _is_numbers(values, 4):
        raise InvalidInputError(f"box must be JSON [x1, y1, x2, y2], not {shortened(text)}")
    return list(values)


def parse_boxes(text: str) -> list[Any]:
    """Parses JSON `[[x1, y1, x2, y2], ...]` to lists.

    Raises:
        InvalidInputError: the text is not JSON, or has another form.
    """
    values = parse_json("boxes", text)
    if not isinstance(values, list) or not all(_is_numbers(value, 4) for value in values):
        raise InvalidInputError(f"boxes must be a JSON list [[x1, y1, x2, y2], ...], not {shortened(text)}")
    return values


def parse_flag(name: str, text: str) -> bool:
    """Parses a flag as HTML forms and Python's `str(bool)` spell it.

    Raises:
        InvalidInputError: the text is none of these spellings.
    """
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise InvalidInputError(f"{name} must be true or false, not {shortened(text)}")


def parse_image_id(text: str) -> str:
    """Checks that a text is a sha256 in lowercase hex, and returns it.

    Raises:
        InvalidInputError: it is not.
    """
    if not _IMAGE_ID.fullmatch(text):
        raise InvalidInputError(f"image_id must be 64 lowercase hexadecimal digits, not {shortened(text)}")
    return text


def parse_logits(text: str) -> np.ndarray:
    """Parses a candidate's `low_res_logits`, as JSON from an earlier answer, to float32 [h, w].

    Raises:
        InvalidInputError: the text is something else.
    """
    return _logits(parse_json("mask_input", text), text)


def parse_logits_sets(text: str) -> list[np.ndarray]:
    """Parses a JSON list with a candidate's `low_res_logits` for each object, to float32 [h, w] each.

    Raises:
        InvalidInputError: the text is something else.
    """
    values = parse_json("mask_input", text)
    if not isinstance(values, list):
        raise InvalidInputError(f"the mask_input of several objects must be a JSON list, not {shortened(text)}")
    return [_logits(value, text) for value in values]


def _logits(values: Any, text: str) -> np.ndarray:
    fault = InvalidInputError(f"mask_input must be a candidate's low_res_logits, unchanged, not {shortened(text)}")
    if not isinstance(values, dict) or not isinstance(values.get("data"), str):
        raise fault
    shape = values.get("shape")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        raise fault
    try:
        data = base64.b64decode(values["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise fault from error
    if len(data) != 4 * shape[0] * shape[1]:
        raise InvalidInputError(
            f"mask_input with the shape {shape} must have {4 * shape[0] * shape[1]} bytes, not {len(data)}"
        )
    return np.frombuffer(data, "<f4").reshape(shape)


def show_logits(logits: np.ndarray) -> dict[str, Any]:
    """Converts float32 [h, w] to the form that `parse_logits` takes."""
    return {"shape": list(logits.shape), "data": base64.b64encode(logits.astype("<f4").tobytes()).decode()}


def parse_json(name: str, text: str) -> Any:
    """Parses the JSON of a field.

    Raises:
        InvalidInputError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} must be JSON, not {shortened(text)}") from error


def _is_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_number(number) for number in value)


def _is_labels(value: Any) -> bool:
    return isinstance(value, list) and all(_is_label(label) for label in value)


def _is_label(value: Any) -> bool:
    return isinstance(value, bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shortened(text: str) -> str:
    """Returns a text for an error's line: quoted, and cut if it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
