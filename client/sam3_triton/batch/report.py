"""Writes the result of each prompt: its masks, and a line in `report.jsonl`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sam3_triton.batch.jobs import Job
from sam3_triton.errors import Sam3Error

REPORT = "report.jsonl"


class Report:
    """The report of a folder of masks. Lines are appended as prompts finish; the last line for an output counts.

    A line has `line`, `image`, `output` (the best mask's path in the folder), `prompt` and `photo` (for the next run to
    detect changes), and either `masks` and `scores`, best first, or `error`. That of a concept, which may have no mask,
    also has `boxes`, `presence` and `truncated`.
    """

    def __init__(self, out: Path) -> None:
        """
        Args:
            out: the folder of masks. It must exist.

        Raises:
            OSError: the report cannot be read.
        """
        self._out = out
        self._path = out / REPORT
        self._entries: dict[str, dict[str, Any]] = {}
        # The last line of a killed run may be incomplete.
        content = self._path.read_bytes() if self._path.exists() else b""
        for line in content.split(b"\n"):
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                entry = json.loads(line)
                if isinstance(entry.get("masks", []), list):
                    self._entries[entry["output"]] = entry
        self._begins_line = content.endswith(b"\n") or not content

    def is_done(self, job: Job) -> bool:
        """Whether all masks of this prompt exist, and prompt and photo have not changed since."""
        entry = self._entries.get(job.outputs[0])
        if entry is None or entry.get("prompt") != job.digest or "masks" not in entry:
            return False
        if entry["masks"] != list(job.masks(len(entry["masks"]))) or not self._masks_exist(entry):
            return False
        entry["line"] = job.line
        return stamp(job.photo) in (None, entry.get("photo"))

    def succeeded(
        self,
        job: Job,
        pngs: Sequence[bytes],
        scores: np.ndarray,
        photo: str | None,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Writes the masks, each atomically, and then the line.

        Args:
            pngs: M PNG files, best first.
            scores: [M].
            details: further values for the line.
            photo: the photo's `stamp`, taken before it was read.

        Raises:
            OSError: a file cannot be written.
        """
        outputs = job.masks(len(pngs))
        for output, png in zip(outputs, pngs, strict=True):
            path = self._out / output
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, png)
        rounded = [round(float(score), 6) for score in scores]
        self._add(job, {"photo": photo, "masks": list(outputs), "scores": rounded, **details})

    def failed(self, job: Job, error: str) -> None:
        """Writes the line, and removes the masks of an earlier prompt with the same output."""
        self._add(job, {"error": error})

    def tidy(self, jobs: Sequence[Job]) -> None:
        """Rewrites the report atomically: one line for each finished prompt, in the order of the prompts.

        Prompts that are not in the file (removed, or from another file) keep their lines if they have masks.
        """
        current = {job.outputs[0] for job in jobs}
        kept = [
            entry
            for output, entry in self._entries.items()
            if output in current or ("masks" in entry and self._masks_exist(entry))
        ]
        kept.sort(key=lambda entry: entry["line"] if isinstance(entry.get("line"), int) else 0)
        _write(self._path, "".join(_line(entry) for entry in kept).encode())
        self._begins_line = True

    def _add(self, job: Job, result: dict[str, Any]) -> None:
        output = job.outputs[0]
        earlier = self._entries.get(output, {})
        head = {"line": job.line, "image": job.image, "output": output, "prompt": job.digest}
        entry = self._entries[output] = {**head, **result}
        with self._path.open("a") as file:
            file.write(("" if self._begins_line else "\n") + _line(entry))
        self._begins_line = True
        for mask in set(self._masks(earlier)) - set(self._masks(entry)):
            mask.unlink(missing_ok=True)

    def _masks(self, entry: dict[str, Any]) -> list[Path]:
        # Somebody may have edited the report: use only PNG files inside the folder.
        masks = [self._out / mask for mask in entry.get("masks", []) if isinstance(mask, str) and mask.endswith(".png")]
        return [mask for mask in masks if ".." not in mask.parts and mask.is_relative_to(self._out)]

    def _masks_exist(self, entry: dict[str, Any]) -> bool:
        masks = self._masks(entry)
        return len(masks) == len(entry["masks"]) and all(mask.is_file() and mask.stat().st_size for mask in masks)


def stamp(photo: Path) -> str | None:
    """Returns a photo's size and modification time, to detect changes; None if there is no such file."""
    try:
        status = photo.stat()
    except OSError:
        return None
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Locks a folder of masks against other runs for the duration of the context.

    Raises:
        Sam3Error: another run holds the lock.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Sam3Error(f"another `sam3 batch` is writing to {out}; wait for it or use another folder") from error
        except OSError:  # a file system without locks, for example a network share
            pass
        yield
    finally:
        os.close(folder)


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _write(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see all of it or none."""
    fresh = path.with_name(f".{path.name}.part")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
