"""Parses the lines of a prompts file into jobs: a prompt and the paths of its masks."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sam3_triton.errors import InvalidInputError
from sam3_triton.prompts import Prompt

KEYS = ("image", "points", "labels", "box", "multimask", "name")
CANDIDATES = 3
_NAME = re.compile(r"\w[\w. -]{0,99}(?<![. ])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# File systems allow 255 bytes; temporary files add a prefix and a suffix.
_LONGEST_FILE_NAME = 240


@dataclass(frozen=True)
class Job:
    """One line of a prompts file.

    Attributes:
        line: the number of the line, from 1.
        image: the photo's path relative to the folder of photos, as given in the line.
        photo: the photo's path.
        prompt: what to segment in the photo.
        outputs: paths of the masks relative to the folder of masks, best first. Unique within the file.
    """

    line: int
    image: str
    photo: Path
    prompt: Prompt
    outputs: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hex digits that identify prompt and image path, independent of how the line is written."""
        prompt = self.prompt
        parts = [None if part is None else part.tolist() for part in (prompt.points, prompt.labels, prompt.box)]
        content = json.dumps([self.image, *parts, prompt.multimask])
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
    taken: dict[str, int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            job = _job(number, _object(line), folder, multimask)
        except InvalidInputError as error:
            faults.append((number, str(error)))
            continue
        clashes = [output for output in job.outputs if output in taken]
        if clashes:
            faults.append((number, f"its mask would be {clashes[0]}, the same as that of line {taken[clashes[0]]}"))
            continue
        taken.update(dict.fromkeys(job.outputs, number))
        jobs.append(job)
    return jobs, faults


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
    for key in ("points", "labels", "box"):
        if not _is_numeric(content.get(key, []), booleans=key == "labels"):
            raise InvalidInputError(f"{key} must be a list of numbers, not {_shortened(content[key])}")
    several = content.get("multimask", multimask)
    if not isinstance(several, bool):
        raise InvalidInputError(f"multimask must be true or false, not {_shortened(several)}")
    prompt = Prompt.of(content.get("points"), content.get("labels"), content.get("box"), multimask=several)
    return Job(number, image, photo, prompt, _outputs(image, content.get("name", str(number)), several))


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


def _outputs(image: str, name: Any, multimask: bool) -> tuple[str, ...]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            "name must be at most 100 letters, digits, '_', '-', '.' and spaces, begin with a letter, digit or '_' and "
            f"not end with '.' or a space: {_shortened(name)}"
        )
    path = PurePosixPath(image)
    outputs = []
    for rank in range(1, CANDIDATES + 1 if multimask else 2):
        output = path.with_name(f"{path.stem}.{name}{f'.{rank}' if rank > 1 else ''}.png")
        if len(os.fsencode(output.name)) > _LONGEST_FILE_NAME:
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
