"""A folder on a file system."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sam3_triton.batch.journal import FileJournal, Journal
from sam3_triton.batch.store import Status, is_inside
from sam3_triton.errors import InvalidInputError, Sam3Error


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
