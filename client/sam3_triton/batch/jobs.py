"""Parses a line of a prompts file into a job: a prompt and the paths of its masks."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_triton.batch.store import Store
from sam3_triton.concepts import DEFAULT_THRESHOLD, ConceptPrompt
from sam3_triton.errors import InvalidInputError
from sam3_triton.prompts import Prompt

_CLICK_KEYS = ("points", "labels", "box", "multimask")
_CONCEPT_KEYS = ("text", "boxes", "box_labels", "threshold", "nms_iou")
KEYS = ("image", *_CLICK_KEYS, *_CONCEPT_KEYS, "name")
CANDIDATES = 3
_NAME = re.compile(r"\w[\w. -]{0,99}(?<![. ])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# File systems allow 255 bytes; temporary files add a prefix and a suffix.
_LONGEST_FILE_NAME = 240
# Of ".12345", which the names of a concept's further masks have.
_LONGEST_RANK = 6


@dataclass(frozen=True)
class Job:
    """One line of a prompts file.

    Attributes:
        line: the number of the line, from 1.
        image: the photo's path relative to the folder of photos.
        prompt: what to segment or to find in the photo.
        outputs: paths of the masks relative to the folder of masks, best first. Unique within the file. Of a concept,
            whose number of masks only the answer tells, the first.
    """

    line: int
    image: str
    prompt: Prompt | ConceptPrompt
    outputs: tuple[str, ...]

    def masks(self, count: int) -> tuple[str, ...]:
        """The paths of the masks of an answer with this many, best first."""
        if isinstance(self.prompt, Prompt):
            return self.outputs
        stem = stem_of(self.outputs[0])
        return tuple(f"{stem}{f'.{rank}' if rank > 1 else ''}.png" for rank in range(1, count + 1))

    @property
    def series(self) -> str | None:
        """Of a concept, the path that its masks have in common; None for a click."""
        return None if isinstance(self.prompt, Prompt) else stem_of(self.outputs[0])

    @property
    def digest(self) -> str:
        """Hex digits that identify prompt and image path, independent of how the line is written."""
        prompt = self.prompt
        parts: list[Any]
        if isinstance(prompt, Prompt):
            parts = [prompt.points, prompt.labels, prompt.box, prompt.multimask]
        else:
            parts = [prompt.boxes, prompt.box_labels, prompt.text, prompt.threshold, prompt.nms_iou]
        content = json.dumps([self.image, *(part.tolist() if isinstance(part, np.ndarray) else part for part in parts)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def job_of(line: int, content: bytes, photos: Store, multimask: bool) -> Job:
    """Parses one line.

    Args:
        line: its number, from 1.
        content: a JSON object in UTF-8.
        photos: the folder of photos. The photo need not exist.
        multimask: default if the line lacks this key.

    Raises:
        InvalidInputError: the line is invalid; the message says why.
    """
    found = _object(content)
    image = _image(found.get("image"), photos)
    name = found.get("name", str(line))
    if "text" in found or "boxes" in found:
        return Job(line, image, _concept(found), _outputs(image, name, 1, _LONGEST_RANK))
    _refuse(found, _CONCEPT_KEYS, "needs text or boxes")
    for key in ("points", "labels", "box"):
        if not _is_numeric(found.get(key, []), booleans=key == "labels"):
            raise InvalidInputError(f"{key} must be a list of numbers, not {_shortened(found[key])}")
    several = found.get("multimask", multimask)
    if not isinstance(several, bool):
        raise InvalidInputError(f"multimask must be true or false, not {_shortened(several)}")
    prompt = Prompt.of(found.get("points"), found.get("labels"), found.get("box"), multimask=several)
    return Job(line, image, prompt, _outputs(image, name, CANDIDATES if several else 1))


def stem_of(output: str) -> str:
    """A mask's path without its suffix."""
    return output.removesuffix(".png")


def _object(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line.decode(), object_pairs_hook=_without_repetition)
    except UnicodeDecodeError as error:
        raise InvalidInputError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InvalidInputError("the JSON is nested too deeply") from error
    if not isinstance(content, dict):
        raise InvalidInputError('not a JSON object such as {"image": "a/b.jpg", "points": [[10, 20]]}')
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise InvalidInputError(f"unknown key {', '.join(map(repr, unknown))}; the keys are {', '.join(KEYS)}")
    return {key: value for key, value in content.items() if value is not None}


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidInputError(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return content


def _concept(content: dict[str, Any]) -> ConceptPrompt:
    _refuse(content, _CLICK_KEYS, "does not go with text or boxes")
    for key in ("boxes", "box_labels"):
        if not _is_numeric(content.get(key, []), booleans=key == "box_labels"):
            raise InvalidInputError(f"{key} must be a list of numbers, not {_shortened(content[key])}")
    return ConceptPrompt.of(
        content.get("text"),
        content.get("boxes"),
        content.get("box_labels"),
        threshold=content.get("threshold", DEFAULT_THRESHOLD),
        nms_iou=content.get("nms_iou"),
    )


def _refuse(content: dict[str, Any], keys: tuple[str, ...], reason: str) -> None:
    for key in keys:
        if key in content:
            raise InvalidInputError(f"{key} {reason}")


def _image(image: Any, photos: Store) -> str:
    if image is None:
        raise InvalidInputError("image is missing")
    # Plain strings: pathlib would take most of the time that a line takes.
    parts = [part for part in image.split("/") if part not in ("", ".")] if isinstance(image, str) else []
    if not parts or _CONTROL.search(image):
        raise InvalidInputError(
            f"image must be a file's path relative to {photos.show('').rstrip('/')}, not {_shortened(image)}"
        )
    relative = "/".join(parts)
    try:
        if image.startswith("/") or ".." in parts:
            raise InvalidInputError(f"image must be inside {photos.show('').rstrip('/')}, without '..'")
        photos.check(relative)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}: {_shortened(image)}") from error
    return relative


def _outputs(image: str, name: Any, count: int, reserve: int = 0) -> tuple[str, ...]:
    """The paths of `count` masks; `reserve` bytes are left in their names."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            "name must be at most 100 letters, digits, '_', '-', '.' and spaces, begin with a letter, digit or '_' and "
            f"not end with '.' or a space: {_shortened(name)}"
        )
    folder, slash, file = image.rpartition("/")
    dot = file.rfind(".")
    stem = file[:dot] if 0 < dot < len(file) - 1 else file
    files = [f"{stem}.{name}{f'.{rank}' if rank > 1 else ''}.png" for rank in range(1, count + 1)]
    for output in files:
        if len(os.fsencode(output)) > _LONGEST_FILE_NAME - reserve:
            raise InvalidInputError(f"the file name of its mask would be too long: {output}")
    return tuple(f"{folder}{slash}{output}" for output in files)


def _is_numeric(value: Any, booleans: bool) -> bool:
    """Whether a nested list contains only numbers, or also `booleans`. numpy would also accept "1"."""
    if not isinstance(value, list):
        return False
    return all(
        _is_numeric(part, booleans)
        if isinstance(part, list)
        else isinstance(part, (int, float)) and (booleans or not isinstance(part, bool))
        for part in value
    )


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
