"""What `sam3 batch` needs of the place where photos are read from and masks are written to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sam3_triton.batch.journal import Journal
from sam3_triton.errors import Sam3Error


class StoreError(Sam3Error):
    """An object store cannot be reached, or it failed."""


@dataclass(frozen=True)
class Status:
    """What a store says about a file.

    Attributes:
        size: bytes.
        stamp: changes when the file's content changes.
        is_regular: False for directories, pipes and the like.
    """

    size: int
    stamp: str
    is_regular: bool


class Store(Protocol):
    """A folder. Names are paths relative to it, with `/`. Its methods may be called from several threads.

    All raise OSError if a file is at fault, and `StoreError` if the store is.
    """

    @property
    def location(self) -> str:
        """The folder's full path or URL, links followed."""

    def show(self, name: str) -> str:
        """A file's path or URL, for messages."""

    def check(self, name: str) -> None:
        """Checks a file's name, without asking the store for each file.

        Raises:
            InvalidInputError: it is no valid name, or its folder is outside.
        """

    def locate(self, name: str) -> str:
        """A file's full path or URL, links followed."""

    def status(self, name: str) -> Status:
        """Describes a file. Raises FileNotFoundError if there is none."""

    def read(self, name: str) -> bytes:
        """Returns a file's content."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, completely or not at all."""

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""

    def journal(self, name: str) -> Journal:
        """A file of lines that grows."""

    def alone(self, name: str, whole: bool) -> AbstractContextManager[None]:
        """Locks the file `name` against other runs, or the `whole` folder, if the store has locks.

        Raises:
            Sam3Error: another run holds the lock.
        """


def overlap(one: Store, other: Store) -> bool:
    """Whether one of two folders lies inside the other."""
    return is_inside(one.location, other.location) or is_inside(other.location, one.location)


def exist(store: Store, names: Iterable[str]) -> bool:
    """Whether all files are there and none is empty."""
    return all(_is_there(store, name) for name in names)


def _is_there(store: Store, name: str) -> bool:
    try:
        status = store.status(name)
    except OSError:
        return False
    return status.is_regular and status.size > 0


def is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
