"""Opens the folders and files that `sam3 batch` is given, as paths or as URLs."""

from __future__ import annotations

from pathlib import Path

from sam3_triton.batch.local_store import LocalStore
from sam3_triton.batch.remote_store import RemoteStore
from sam3_triton.batch.store import Store
from sam3_triton.extras import filesystem_of


def open_store(where: str) -> Store:
    """Opens a folder: a path, or a URL such as `s3://bucket/photos`.

    Raises:
        MissingExtraError: a URL's file system is not installed.
        InvalidInputError: nobody knows such URLs.
    """
    if "://" not in where:
        return LocalStore(Path(where))
    files, root = filesystem_of(where)
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        return LocalStore(Path(root))
    return RemoteStore(files, root)


def open_file(where: str) -> tuple[Store, str]:
    """Opens the folder of a file; returns it and the file's name."""
    folder, slash, name = where.rpartition("/")
    return open_store(folder or slash or "."), name
