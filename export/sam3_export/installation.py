"""Installs a set of artifacts in the model repository in one step.

    model_repository/sam3/exports/<set>/            export.json and one folder for each model
    model_repository/sam3/exports/current           -> <set>
    model_repository/sam3_image_encoder/1           -> ../sam3/exports/current/sam3_image_encoder
    model_repository/sam3_mask_decoder/1            -> ../sam3/exports/current/sam3_mask_decoder

The models of concept prompts lie in a folder that Triton does not read. They become visible to it when a set includes
concepts, and disappear with one that does not:

    model_repository/sam3_text_encoder              -> sam3/concepts/sam3_text_encoder (and so for each folder there)
    model_repository/sam3/concepts/sam3_text_encoder/1 -> ../../exports/current/sam3_text_encoder

One rename replaces `current`, so no reader finds the encoder of one set beside the decoder of another.
`sam3-serve` holds a shared lock on `exports/.swap.lock` while Triton loads; the rename waits for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from sam3_export.errors import ExportError

EXPORTS = Path("sam3") / "exports"
CONCEPTS = Path("sam3") / "concepts"
CURRENT = "current"
REPORT = "export.json"
SWAP_LOCK = ".swap.lock"


def check_repository(repository: Path, model_names: tuple[str, ...]) -> None:
    """Checks that artifacts can be installed in the repository.

    Raises:
        ExportError: it is not a model repository of this project, or sam3-export did not make a model's version folder.
    """
    for model_name in ("sam3", *model_names):
        config = _folder(repository, model_name) / "config.pbtxt"
        if not config.is_file():
            raise ExportError(
                f"{repository}: not a model repository of this project ({config.relative_to(repository)} is missing)"
            )
    links = [_folder(repository, model_name) / "1" for model_name in model_names]
    for link in [*links, *(repository / model_name for model_name in _concept_models(repository))]:
        if link.exists() and not link.is_symlink():
            raise ExportError(f"{link} was not made by sam3-export; move it elsewhere first")


def _concept_models(repository: Path) -> list[str]:
    """All models of concept prompts, exported or not."""
    return sorted(folder.parent.name for folder in (repository / CONCEPTS).glob("*/config.pbtxt"))


def _folder(repository: Path, model_name: str) -> Path:
    """The folder of a model's files."""
    of_concepts = repository / CONCEPTS / model_name
    return of_concepts if of_concepts.is_dir() else repository / model_name


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
            version = _folder(repository, model_name) / "1"
            target = repository / EXPORTS / CURRENT / model_name
            _point(version, Path(os.path.relpath(target, version.parent)))
        _point(exports / CURRENT, Path(set_name))
        _show_concepts(repository, model_names)
    for entry in exports.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry != destination:
            shutil.rmtree(entry, ignore_errors=True)


def _show_concepts(repository: Path, model_names: tuple[str, ...]) -> None:
    """Makes the models of concept prompts visible to Triton, or hides them if none of them was exported."""
    models = _concept_models(repository)
    shown = not set(models).isdisjoint(model_names)
    for model_name in models:
        version = repository / CONCEPTS / model_name / "1"
        if shown:
            _point(repository / model_name, CONCEPTS / model_name)
        else:
            (repository / model_name).unlink(missing_ok=True)
            if version.is_symlink():
                version.unlink()


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
