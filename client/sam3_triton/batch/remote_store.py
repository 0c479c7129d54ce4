"""A folder in an object store, through fsspec."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from sam3_triton.batch.journal import Journal
from sam3_triton.batch.store import Status, StoreError
from sam3_triton.errors import InvalidInputError

# Object stores name an object's version differently.
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
# A part is written again with each flush until it is full, so its size bounds what is written twice.
_LINES_PER_PART = 1000


class RemoteStore:
    """A folder in an object store. Objects appear completely or not at all; there are no locks."""

    def __init__(self, files: Any, root: str) -> None:
        """
        Args:
            files: an fsspec file system.
            root: the folder's path in it.
        """
        self._files = files
        self._root = root.rstrip("/")
        self.location: str = files.unstrip_protocol(self._root)

    def show(self, name: str) -> str:
        return self.locate(name)

    def check(self, name: str) -> None:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError("image is not a valid file name") from error

    def locate(self, name: str) -> str:
        return f"{self.location}/{name}"

    def status(self, name: str) -> Status:
        with self._faults(name):
            found = self._files.info(self._path(name))
        size = found.get("size") or 0
        version = next((str(found[key]).strip('"') for key in _VERSIONS if found.get(key)), "")
        return Status(size, f"{size}-{version}", found.get("type") == "file")

    def read(self, name: str) -> bytes:
        with self._faults(name):
            return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        with self._faults(name):
            self._files.pipe_file(self._path(name), content)

    def delete(self, name: str) -> None:
        with self._faults(name), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, sorted."""
        with self._faults(folder):
            try:
                found = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(f"{folder}/{path.rpartition('/')[2]}" for path in found)

    def journal(self, name: str) -> Journal:
        return PartedJournal(self, name)

    def alone(self, name: str, whole: bool) -> nullcontext[None]:
        return nullcontext()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _faults(self, name: str) -> Iterator[None]:
        """Translates errors: those of one object become OSError with a reason, all others `StoreError`."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.show(name)) from error
        except PermissionError as error:
            raise PermissionError(errno.EACCES, f"{os.strerror(errno.EACCES)} ({error})", self.show(name)) from error
        except Exception as error:  # each file system has exceptions of its own
            raise StoreError(f"{self.show(name)}: {type(error).__name__}: {' '.join(str(error).split())}") from error


class PartedJournal:
    """Lines in an object and, since objects cannot be appended to, in the parts beside it that a run has written.

    A run writes its lines to parts of up to 1000 lines. Its last part is written again at each flush, so that what is
    written twice stays bounded. `replace` puts all lines into the one object and deletes the parts.
    """

    def __init__(self, store: RemoteStore, name: str) -> None:
        self._store = store
        self._name = name
        self._folder = f"{name}.parts"
        self._parts: list[str] = []
        self._current: list[bytes] = []
        self._stored = 0

    def lines(self) -> Iterator[bytes]:
        with suppress(FileNotFoundError):
            yield from self._store.read(self._name).splitlines(keepends=True)
        self._parts = self._store.names(self._folder)
        for part in self._parts:
            yield from self._store.read(part).splitlines(keepends=True)

    def append(self, line: bytes) -> None:
        if not self._current:
            # Sorts behind all earlier parts, and differs from those of a run that works at the same time.
            self._parts.append(f"{self._folder}/{time.time_ns():020}.jsonl")
        self._current.append(line)
        if len(self._current) == _LINES_PER_PART:
            self.flush()
            self._current, self._stored = [], 0

    def flush(self) -> None:
        if len(self._current) > self._stored:
            self._store.write(self._parts[-1], b"".join(self._current))
            self._stored = len(self._current)

    def replace(self, lines: Iterable[bytes]) -> None:
        self._store.write(self._name, b"".join(lines))
        self._current, self._stored = [], 0
        # The oldest first: if that is interrupted, the latest line for an output is still the last one.
        while self._parts:
            self._store.delete(self._parts[0])
            del self._parts[0]
