"""Installs a set of artifacts in the model repository in one step.

    model_repository/sam3/exports/<set>/            export.json and one folder for each model
    model_repository/sam3/exports/current           -> <set>
    model_repository/sam3_image_encoder/1           -> ../sam3/exports/current/sam3_image_encoder
    model_repository/sam3_mask_decoder/1            -> ../sam3/exports/current/sam3_mask_decoder

One rename replaces `current`, so no reader finds the encoder of one set beside the decoder of another.
`sam3-serve` holds a shared lock on `exports/.swap.lock` while Triton loads; the rename waits for it.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import IO

from sam3_export.errors import ExportError

EXPORTS = Path("sam3") / "exports"
CURRENT = "current"
REPORT = "export.json"
SWAP_LOCK = ".swap.lock"


def check_repository(repository: Path, model_names: tuple[str, ...]) -> None:
    """Checks that artifacts can be installed in the repository.

    Raises:
        ExportError: it is not a model repository of this project, or sam3-export did not make a model's version folder.
    """
    for model_name in ("sam3", *model_names):
        if not (repository / model_name / "config.pbtxt").is_file():
            raise ExportError(
                f"{repository}: not a model repository of this project ({model_name}/config.pbtxt is missing)"
            )
    for model_name in model_names:
        version = repository / model_name / "1"
        if version.exists() and not version.is_symlink():
            raise ExportError(f"{version} was not made by sam3-export; move it elsewhere first")


def check_space(folder: Path, needed: int) -> None:
    """Checks that an export fits on the disk.

    Raises:
        ExportError: fewer than `needed` bytes are free on the disk of `folder`.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(f"{folder}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free")


def install(repository: Path, staged: Path, set_name: str, model_names: tuple[str, ...]) -> None:
    """Makes the staged set the one that servers load, and deletes earlier sets and what is left of the staging."""
    exports = repository / EXPORTS
    destination = exports / set_name
    with (exports / SWAP_LOCK).open("a") as lock:
        _wait_for_servers(lock)
        staged.rename(destination)
        for model_name in model_names:
            target = Path("..") / EXPORTS / CURRENT / model_name
            _point(repository / model_name / "1", target)
        _point(exports / CURRENT, Path(set_name))
    for entry in exports.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry != destination:
            shutil.rmtree(entry, ignore_errors=True)


def _wait_for_servers(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting until a server has loaded this repository ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _point(link: Path, target: Path) -> None:
    """Makes `link` a symbolic link to `target`, replacing an earlier one in a single step."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
