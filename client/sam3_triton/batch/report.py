"""Writes the result of each prompt: its masks, and a line in the report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np

from sam3_triton.batch.jobs import Job
from sam3_triton.batch.shards import Shard
from sam3_triton.batch.store import Store, exist


class Report:
    """The report of a folder of masks. Lines are appended as prompts finish; the last line for an output counts.

    A line has `line`, `image`, `output` (the best mask's path in the folder), `prompt` and `photo` (for the next run to
    detect changes), and either `masks` and `scores`, best first, or `error`. That of a concept, which may have no mask,
    also has `boxes`, `presence` and `truncated`.

    It is kept in memory as text, about 350 bytes a line. Its methods may be called from several threads.
    """

    def __init__(self, out: Store, name: str) -> None:
        """
        Args:
            out: the folder of masks.
            name: the report's name in it; see `report_name`.

        Raises:
            OSError, StoreError: the report cannot be read.
        """
        self._out = out
        self._journal = out.journal(name)
        self._lock = threading.Lock()
        self._lines: dict[str, bytes] = {}
        # The last line of a killed run may be incomplete.
        for line in self._journal.lines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                entry = json.loads(line)
                if isinstance(entry.get("masks", []), list):
                    self._lines[entry["output"]] = line.rstrip(b"\n") + b"\n"

    def __len__(self) -> int:
        return len(self._lines)

    def is_done(self, job: Job, photos: Store) -> bool:
        """Whether all masks of this prompt exist, and prompt and photo have not changed since."""
        entry = self._entry(job.outputs[0])
        if entry.get("prompt") != job.digest or "masks" not in entry:
            return False
        if entry["masks"] != list(job.masks(len(entry["masks"]))) or not self._masks_exist(entry):
            return False
        if entry.get("line") != job.line:
            self._lines[job.outputs[0]] = _line({**entry, "line": job.line})
        try:
            return photos.status(job.image).stamp == entry.get("photo")
        except OSError:
            return True  # the photo is not there any more

    def succeeded(
        self,
        job: Job,
        pngs: Sequence[bytes],
        scores: np.ndarray,
        photo: str,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Writes the masks, each completely or not at all, and then the line.

        Args:
            pngs: M PNG files, best first.
            scores: [M].
            photo: the photo's `Status.stamp`, taken before it was read.
            details: further values for the line.

        Raises:
            OSError, StoreError: a file cannot be written.
        """
        outputs = job.masks(len(pngs))
        for output, png in zip(outputs, pngs, strict=True):
            self._out.write(output, png)
        rounded = [round(float(score), 6) for score in scores]
        self._add(job, {"photo": photo, "masks": list(outputs), "scores": rounded, **details})

    def failed(self, job: Job, error: str) -> None:
        """Writes the line, and removes the masks of an earlier prompt with the same output."""
        self._add(job, {"error": error})

    def flush(self) -> None:
        """Stores the lines of finished prompts, for runs that are killed."""
        with self._lock:
            self._journal.flush()

    def tidy(self, jobs: Iterable[Job]) -> None:
        """Rewrites the report completely or not at all: one line for each finished prompt, in the order of the prompts.

        Prompts that are not in the file (removed, or from another file) keep their lines if they have masks.
        """
        others = set(self._lines)
        for job in jobs:
            others.discard(job.outputs[0])
        for output in others:
            entry = self._entry(output)
            if "masks" not in entry or not self._masks_exist(entry):
                del self._lines[output]
        order = {output: json.loads(line).get("line") for output, line in self._lines.items()}
        ordered = sorted(order, key=lambda output: order[output] if isinstance(order[output], int) else 0)
        with self._lock:
            self._journal.replace(self._lines[output] for output in ordered)

    def _add(self, job: Job, result: dict[str, Any]) -> None:
        output = job.outputs[0]
        entry = {"line": job.line, "image": job.image, "output": output, "prompt": job.digest, **result}
        with self._lock:
            earlier = self._entry(output)
            line = self._lines[output] = _line(entry)
            self._journal.append(line)
        for mask in set(self._masks(earlier)) - set(self._masks(entry)):
            self._out.delete(mask)

    def _entry(self, output: str) -> dict[str, Any]:
        entry: dict[str, Any] = json.loads(self._lines.get(output, b"{}"))
        return entry

    def _masks(self, entry: dict[str, Any]) -> list[str]:
        # Somebody may have edited the report: use only PNG files inside the folder.
        masks = [mask for mask in entry.get("masks", []) if isinstance(mask, str) and mask.endswith(".png")]
        return [mask for mask in masks if not mask.startswith("/") and ".." not in mask.split("/")]

    def _masks_exist(self, entry: dict[str, Any]) -> bool:
        masks = self._masks(entry)
        return len(masks) == len(entry["masks"]) and exist(self._out, masks)


def report_name(shard: Shard | None) -> str:
    """The name of the report of a shard, or of the whole file of prompts."""
    return f"report{shard.suffix if shard else ''}.jsonl"


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
