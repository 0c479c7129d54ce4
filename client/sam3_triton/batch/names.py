"""Finds lines of a prompts file whose masks would have the same path."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

import numpy as np

from sam3_triton.batch.jobs import Job, stem_of

_RANK = re.compile(r"\.[1-9]\d*$")


class Names:
    """The paths that the masks of all lines have or may have, as hashes: 36 bytes a mask.

    Equal hashes only make lines suspect. `ClashFinder` then compares their paths.
    """

    def __init__(self) -> None:
        self._outputs, self._series, self._possible = _Hashes(), _Hashes(), _Hashes()

    def add(self, job: Job, row: int) -> None:
        """Adds the paths of a line's masks; `row` is the line's place in the file."""
        for output in job.outputs:
            self._outputs.add(output, row)
            for series in dict.fromkeys(possible_series(output)):
                self._possible.add(series, row)
        if job.series is not None:
            self._series.add(job.series, row)

    def suspects(self) -> list[int]:
        """The rows of lines that may have a path in common with another line, sorted."""
        found = set(self._outputs.repeated())
        if self._series:
            found.update(self._possible.rows_with(self._series))
        return sorted(found)


class ClashFinder:
    """The paths that lines have taken, by the lines' numbers."""

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


def possible_series(output: str) -> tuple[str, str]:
    """The paths of series (see `Job.series`) that a mask of this path could belong to."""
    stem = stem_of(output)
    return stem, _RANK.sub("", stem)


class _Hashes:
    """Hashes of strings, with the row of each."""

    def __init__(self) -> None:
        self._hashes, self._rows = array("q"), array("I")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str, row: int) -> None:
        self._hashes.append(hash(text))
        self._rows.append(row)

    def repeated(self) -> Sequence[int]:
        """The rows whose hash another row has, too."""
        return self._rows_of(np.asarray(self._hashes))

    def rows_with(self, others: _Hashes) -> Sequence[int]:
        """The rows whose hash is one of `others` and that another row has, too."""
        return self._rows_of(np.asarray(self._hashes), np.asarray(others._hashes))

    def _rows_of(self, hashes: np.ndarray, among: np.ndarray | None = None) -> Sequence[int]:
        values, counts = np.unique(hashes, return_counts=True)
        wanted = values[counts > 1]
        if among is not None:
            wanted = np.intersect1d(wanted, among)
        rows: list[int] = np.asarray(self._rows)[np.isin(hashes, wanted)].tolist()
        return rows
