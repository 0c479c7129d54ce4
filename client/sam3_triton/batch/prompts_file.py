"""A file of prompts: checked as a whole, then parsed again line by line when a job is needed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sam3_triton.batch.jobs import Job, job_of
from sam3_triton.batch.names import ClashFinder, Names
from sam3_triton.batch.shards import Shard, photo_number
from sam3_triton.batch.store import Store
from sam3_triton.errors import InvalidInputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Fault(NamedTuple):
    """An invalid line: its number, from 1, and what is wrong."""

    line: int
    text: str


@dataclass(frozen=True)
class _Source:
    """The file's content, and what its lines refer to."""

    content: bytes
    photos: Store
    multimask: bool

    def line_at(self, start: int) -> bytes:
        end = self.content.find(b"\n", start)
        return self.content[start:] if end < 0 else self.content[start:end]


class Jobs:
    """The jobs of a file, or some of them: the file's content and 20 bytes for each, which is parsed when needed."""

    def __init__(self, source: _Source, starts: np.ndarray, lines: np.ndarray, photos: np.ndarray) -> None:
        """
        Args:
            starts: int64 [N], where each line starts in the file.
            lines: uint32 [N], the lines' numbers.
            photos: uint64 [N], the photos' `photo_number`.
        """
        self._source = source
        self._starts, self._lines, self._photos = starts, lines, photos

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> Job:
        source = self._source
        line = source.line_at(int(self._starts[row]))
        return job_of(int(self._lines[row]), line, source.photos, source.multimask)

    def __iter__(self) -> Iterator[Job]:
        return (self[row] for row in range(len(self)))

    def select(self, rows: Sequence[int] | np.ndarray) -> Jobs:
        """Some of these jobs: the numbers of their rows, or a mask."""
        return Jobs(self._source, self._starts[rows], self._lines[rows], self._photos[rows])

    def of_shard(self, shard: Shard) -> Jobs:
        """The jobs of one shard, which depend on the photos' paths alone."""
        return self.select(self._photos % np.uint64(shard.count) == shard.index)

    def grouped(self) -> Jobs:
        """These jobs, those of each photo in succession: it is encoded once even if the server's cache is small."""
        _, first, inverse = np.unique(self._photos, return_index=True, return_inverse=True)
        return self.select(np.argsort(first[inverse], kind="stable"))


def parse(content: bytes, photos: Store, multimask: bool = False) -> tuple[Jobs, list[Fault]]:
    """Returns the jobs of a prompts file, and the fault of each invalid line, sorted by line.

    Args:
        content: one JSON object per line, in UTF-8. Empty lines are skipped.
        photos: the folder of photos, which need not exist.
        multimask: default for lines without this key.
    """
    source = _Source(content, photos, multimask)
    faults: list[Fault] = []
    names = Names()
    starts, lines, numbers = array("q"), array("I"), array("Q")
    for line, start in _starts(content):
        text = source.line_at(start)
        if not text.strip():
            continue
        try:
            job = job_of(line, text, photos, multimask)
        except InvalidInputError as error:
            faults.append(Fault(line, str(error)))
            continue
        names.add(job, len(starts))
        starts.append(start)
        lines.append(line)
        numbers.append(photo_number(job.image))
    jobs = Jobs(source, np.asarray(starts), np.asarray(lines), np.asarray(numbers))
    finder = ClashFinder()
    clashes = {row: clash for row in names.suspects() if (clash := finder.take(jobs[row]))}
    if not clashes:
        return jobs, faults
    faults += [Fault(int(jobs._lines[row]), clash) for row, clash in clashes.items()]
    good = np.ones(len(jobs), bool)
    good[list(clashes)] = False
    return jobs.select(good), sorted(faults)


def _starts(content: bytes) -> Iterator[tuple[int, int]]:
    """Each line's number, from 1, and where it starts."""
    line, start = 1, len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    while True:
        yield line, start
        end = content.find(b"\n", start)
        if end < 0:
            return
        line, start = line + 1, end + 1
