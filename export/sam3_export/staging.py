"""The set that an export is working on, and what an earlier export left of it.

    exports/.staging/<key>/set/           artifacts, laid out as they will be installed
    exports/.staging/<key>/passed.json    the report's entries of those that have passed their check, by path in the set

An export that fails or is killed leaves the artifacts that have passed. The next export with the same key reuses them;
an export with another key deletes them. `passed.json` is written after an artifact's check and holds its sha256, so a
file that was being written, or was damaged since, is never reused.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam3_export.digests import sha256
from sam3_export.errors import ExportError
from sam3_export.installation import EXPORTS

_LOCK = ".export.lock"
_STAGING = ".staging"
_PASSED = "passed.json"
Entry = dict[str, Any]


class Staged:
    """A set that is being exported.

    Attributes:
        folder: of the set.
        passed: the report's entries of the artifacts that have passed, by path in the set.
    """

    def __init__(self, folder: Path, wanted: Collection[str]) -> None:
        """
        Args:
            folder: of the set's key. Everything in it is deleted, except the wanted artifacts that have passed.
            wanted: paths in the set of the artifacts to export.
        """
        self.folder = folder / "set"
        self._record = folder / _PASSED
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier = _read(self._record).items()
        self.passed = {path: entry for path, entry in earlier if path in wanted and self._is_whole(path, entry)}
        _clear(self.folder, {self.folder / path for path in self.passed})

    def add(self, path: str, entry: Entry) -> None:
        """Records that an artifact has passed its check. Its entry is kept with its size and sha256."""
        file = self.folder / path
        self.passed[path] = {"bytes": file.stat().st_size, "sha256": sha256([file]), **entry}
        fresh = self._record.with_suffix(".new")
        with fresh.open("w") as record:
            json.dump(self.passed, record, indent=2)
            record.flush()
            os.fsync(record.fileno())
        fresh.replace(self._record)

    def _is_whole(self, path: str, entry: Entry) -> bool:
        file = self.folder / path
        return file.is_file() and sha256([file]) == entry["sha256"]


@contextmanager
def staging(repository: Path, key: str, wanted: Collection[str]) -> Iterator[Staged]:
    """The set of this key; at the end, what has not been installed is kept if an artifact has passed, or else deleted.

    Args:
        key: stands for everything that the artifacts depend on; a name for a folder.
        wanted: see `Staged`.

    Raises:
        ExportError: another export into this repository is running.
    """
    exports = repository / EXPORTS
    exports.mkdir(exist_ok=True)
    with (exports / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"{repository}: another sam3-export is running; wait until it has ended") from error
        root = exports / _STAGING
        for other in set(root.iterdir() if root.exists() else ()) - {root / key}:
            shutil.rmtree(other)
        staged = Staged(root / key, wanted)
        try:
            yield staged
        finally:
            if not staged.passed:
                shutil.rmtree(root)
            elif staged.folder.exists():
                print(f"Kept in {root} for the next export: {', '.join(staged.passed)}", file=sys.stderr)


def _read(record: Path) -> dict[str, Entry]:
    try:
        content: dict[str, Entry] = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):  # nothing has passed yet, or the disk damaged the record
        return {}
    return content


def _clear(folder: Path, kept: Collection[Path]) -> None:
    """Deletes everything below the folder except the kept files and the folders that hold them."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        if not path.is_dir():
            if path not in kept:
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()
