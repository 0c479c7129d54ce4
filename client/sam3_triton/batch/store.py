"""Where photos are read from and masks are written to: a folder on a file system, or one in an object store."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sam3_triton.batch.journal import FileJournal, Journal
from sam3_triton.errors import InvalidInputError, Sam3Error


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


def open_store(where: str) -> Store:
    """Opens a folder: a path, or a URL such as `s3://bucket/photos`.

    Raises:
        MissingExtraError: a URL's file system is not installed.
        InvalidInputError: nobody knows such URLs.
    """
    if "://" not in where:
        return LocalStore(Path(where))
    from sam3_triton.batch.remote_store import connect

    return connect(where)


def open_file(where: str) -> tuple[Store, str]:
    """Opens the folder of a file; returns it and the file's name."""
    folder, slash, name = where.rpartition("/")
    return open_store(folder or slash or "."), name


class LocalStore:
    """A folder on a file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = os.path.realpath(root)
        # Links of whole folders are followed once: a million photos lie in few folders.
        self._folders: dict[str, str] = {}

    def show(self, name: str) -> str:
        return str(self.root / name)

    def check(self, name: str) -> None:
        try:
            os.fsencode(name)
        except UnicodeEncodeError as error:
            raise InvalidInputError("image is not a valid file name") from error
        folder = name.rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = self.locate(folder)
        if not is_inside(self._folders[folder], self.location):
            raise InvalidInputError(f"image must be inside {self.root}")

    def locate(self, name: str) -> str:
        return os.path.realpath(self.root / name)

    def status(self, name: str) -> Status:
        found = (self.root / name).stat()
        return Status(found.st_size, f"{found.st_size}-{found.st_mtime_ns}", stat.S_ISREG(found.st_mode))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.part")
        try:
            fresh.write_bytes(content)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def journal(self, name: str) -> Journal:
        return FileJournal(self.root / name)

    @contextmanager
    def alone(self, name: str, whole: bool) -> Iterator[None]:
        # A run over the whole folder excludes all others; shards exclude only a second run of the same shard.
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(_locked(self.root, os.O_RDONLY, fcntl.LOCK_EX if whole else fcntl.LOCK_SH, self.root))
            if not whole:
                lock = self.root / f".{name}.lock"
                held.enter_context(_locked(lock, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX, self.root / name))
            yield


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


@contextmanager
def _locked(path: Path, flags: int, lock: int, told: Path) -> Iterator[None]:
    opened = os.open(path, flags, 0o644)
    try:
        try:
            fcntl.flock(opened, lock | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Sam3Error(f"another `sam3 batch` is writing to {told}; wait for it or use another folder") from error
        except OSError:  # a file system without locks, for example a network share
            pass
        yield
    finally:
        os.close(opened)
