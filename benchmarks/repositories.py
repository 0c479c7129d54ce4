"""Model repositories that a benchmark makes itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import PROJECT
from benchmarks.results import BenchmarkError


def bare_repository(folder: Path) -> Path:
    """Copies this project's repository into `folder` without artifacts, and the profiles beside it."""
    repository = folder / "model_repository"
    ignored = shutil.ignore_patterns("exports", "__pycache__")
    shutil.copytree(PROJECT / "model_repository", repository, symlinks=True, ignore=ignored)
    for path in [*repository.iterdir(), *repository.glob("*/1"), *repository.glob("sam3/concepts/*/1")]:
        if path.is_symlink():  # made by sam3-export
            path.unlink()
    shutil.copytree(PROJECT / "ensemble_configs", folder / "ensemble_configs")
    return repository


def exported(checkpoint: Path, folder: Path, components: str, formats: str = "onnx") -> Path:
    """Exports a checkpoint into a new repository in `folder`, which is emptied first, with the profiles beside it.

    Raises:
        BenchmarkError: the export failed; its reason is on standard error.
    """
    shutil.rmtree(folder, ignore_errors=True)
    repository = bare_repository(folder)
    command = [sys.executable, "-m", "sam3_export.cli", "--checkpoint", str(checkpoint), "--formats", formats]
    command += ["--config", str(checkpoint.with_suffix(".json")), "--repository", str(repository)]
    if subprocess.run([*command, "--components", components], stdout=sys.stderr).returncode:
        raise BenchmarkError(f"{checkpoint} could not be exported")
    return repository
