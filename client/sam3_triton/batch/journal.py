"""A file of lines that grows while a run works, so that a killed run loses nothing, or little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol


class Journal(Protocol):
    """Lines of bytes, each with its newline. Its methods are called by one thread at a time."""

    def lines(self) -> Iterator[bytes]:
        """Yields the lines in the order in which they were appended. The last one of a killed run may be incomplete."""

    def append(self, line: bytes) -> None:
        """Adds a line."""

    def flush(self) -> None:
        """Returns when the appended lines are stored."""

    def replace(self, lines: Iterable[bytes]) -> None:
        """Replaces all lines, completely or not at all."""


class FileJournal:
    """A file on a file system. Each line is written when it is appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begins_line = True

    def lines(self) -> Iterator[bytes]:
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    self._begins_line = line.endswith(b"\n")
                    yield line

    def append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write((b"" if self._begins_line else b"\n") + line)
        self._begins_line = True

    def flush(self) -> None:
        pass

    def replace(self, lines: Iterable[bytes]) -> None:
        fresh = self._path.with_name(f".{self._path.name}.part")
        try:
            with fresh.open("wb") as file:
                file.writelines(lines)
            fresh.replace(self._path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self._begins_line = True
