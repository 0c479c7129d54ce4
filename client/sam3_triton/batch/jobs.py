"""Parses the lines of a prompts file into jobs: a prompt and the paths of its masks."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sam3_triton.concepts import DEFAULT_THRESHOLD, ConceptPrompt
from sam3_triton.errors import InvalidInputError
from sam3_triton.prompts import Prompt

_CLICK_KEYS = ("points", "labels", "box", "multimask")
_CONCEPT_KEYS = ("text", "boxes", "box_labels", "threshold", "nms_iou")
KEYS = ("image", *_CLICK_KEYS, *_CONCEPT_KEYS, "name")
CANDIDATES = 3
_NAME = re.compile(r"\w[\w. -]{0,99}(?<![. ])")
_RANK = re.compile(r"\.[1-9]\d*$")
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
        image: the photo's path relative to the folder of photos, as given in the line.
        photo: the photo's path.
        prompt: what to segment or to find in the photo.
        outputs: paths of the masks relative to the folder of masks, best first. Unique within the file. Of a concept,
            whose number of masks only the answer tells, the first.
    """

    line: int
    image: str
    photo: Path
    prompt: Prompt | ConceptPrompt
    outputs: tuple[str, ...]

    def masks(self, count: int) -> tuple[str, ...]:
        """The paths of the masks of an answer with this many, best first."""
        if isinstance(self.prompt, Prompt):
            return self.outputs
        stem = _stem(self.outputs[0])
        return tuple(f"{stem}{f'.{rank}' if rank > 1 else ''}.png" for rank in range(1, count + 1))

    @property
    def series(self) -> str | None:
        """Of a concept, the path that its masks have in common; None for a click."""
        return None if isinstance(self.prompt, Prompt) else _stem(self.outputs[0])

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


def parse(content: bytes, folder: Path, multimask: bool = False) -> tuple[list[Job], list[tuple[int, str]]]:
    """Returns the jobs of a prompts file, and the line number and fault of each invalid line.

    Args:
        content: one JSON object per line, in UTF-8. Empty lines are skipped.
        folder: the folder of photos. It must exist; the photos need not.
        multimask: default for lines without this key.
    """
    jobs: list[Job] = []
    faults: list[tuple[int, str]] = []
    names = _Names()
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            job = _job(number, _object(line), folder, multimask)
        except InvalidInputError as error:
            faults.append((number, str(error)))
            continue
        if clash := names.take(job):
            faults.append((number, clash))
            continue
        jobs.append(job)
    return jobs, faults


def possible_series(output: str) -> tuple[str, str]:
    """The paths of series (see `Job.series`) that a mask of this path could belong to."""
    stem = _stem(output)
    return stem, _RANK.sub("", stem)


class _Names:
    """The masks' paths that lines have taken, by the lines' numbers."""

    def __init__(self) -> None:
        self._outputs: dict[str, int] = {}
        self._series: dict[str, int] = {}
        self._possible_series: dict[str, int] = {}

    def take(self, job: Job) -> str:
        """Takes the paths of a job. Returns the fault if an earlier line has one of them, else an empty string."""
        for output in job.outputs:
            if output in self._outputs:
                return f"its mask would be {output}, the same as that of line {self._outputs[output]}"
        others = [self._series.get(series) for output in job.outputs for series in possible_series(output)]
        if job.series is not None:
            others.append(self._possible_series.get(job.series))
        for line in others:
            if line is not None:
                return f"one of its masks could have the same name as one of line {line}; change name"
        self._outputs.update(dict.fromkeys(job.outputs, job.line))
        for output in job.outputs:
            self._possible_series.update(dict.fromkeys(possible_series(output), job.line))
        if job.series is not None:
            self._series[job.series] = job.line
        return ""


def _stem(output: str) -> str:
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


def _job(number: int, content: dict[str, Any], folder: Path, multimask: bool) -> Job:
    image, photo = _photo(content.get("image"), folder)
    name = content.get("name", str(number))
    if "text" in content or "boxes" in content:
        return Job(number, image, photo, _concept(content), _outputs(image, name, 1, _LONGEST_RANK))
    _refuse(content, _CONCEPT_KEYS, "needs text or boxes")
    for key in ("points", "labels", "box"):
        if not _is_numeric(content.get(key, []), booleans=key == "labels"):
            raise InvalidInputError(f"{key} must be a list of numbers, not {_shortened(content[key])}")
    several = content.get("multimask", multimask)
    if not isinstance(several, bool):
        raise InvalidInputError(f"multimask must be true or false, not {_shortened(several)}")
    prompt = Prompt.of(content.get("points"), content.get("labels"), content.get("box"), multimask=several)
    return Job(number, image, photo, prompt, _outputs(image, name, CANDIDATES if several else 1))


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


def _photo(image: Any, folder: Path) -> tuple[str, Path]:
    if image is None:
        raise InvalidInputError("image is missing")
    if not isinstance(image, str) or not PurePosixPath(image).name or _CONTROL.search(image):
        raise InvalidInputError(f"image must be a file's path relative to {folder}, not {_shortened(image)}")
    relative = PurePosixPath(image)
    photo = folder / relative
    try:
        os.fsencode(photo)
        inside = photo.resolve().is_relative_to(folder.resolve())
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"image is not a valid file name: {_shortened(image)}") from error
    except (OSError, RuntimeError):  # for example a loop of links: reading it fails with the reason
        inside = True
    if relative.is_absolute() or ".." in relative.parts or not inside:
        raise InvalidInputError(f"image must be inside {folder}, without '..', not {_shortened(image)}")
    return str(relative), photo


def _outputs(image: str, name: Any, count: int, reserve: int = 0) -> tuple[str, ...]:
    """The paths of `count` masks; `reserve` bytes are left in their names."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            "name must be at most 100 letters, digits, '_', '-', '.' and spaces, begin with a letter, digit or '_' and "
            f"not end with '.' or a space: {_shortened(name)}"
        )
    path = PurePosixPath(image)
    outputs = []
    for rank in range(1, count + 1):
        output = path.with_name(f"{path.stem}.{name}{f'.{rank}' if rank > 1 else ''}.png")
        if len(os.fsencode(output.name)) > _LONGEST_FILE_NAME - reserve:
            raise InvalidInputError(f"the file name of its mask would be too long: {output.name}")
        outputs.append(str(output))
    return tuple(outputs)


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
