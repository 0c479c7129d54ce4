"""Checks of the artifacts in a model repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam3_triton.doctor.findings import Finding, fault, megabytes, ok
from sam3_triton.served_model import ServedModel
from sam3_triton.wire import CONCEPT_MODEL

CURRENT = Path("sam3") / "exports" / "current"
REPORT = "export.json"
EXPORT_AGAIN = "install them with sam3-export --checkpoint PATH --repository DIR"


def check_repository(repository: Path) -> Iterator[Finding]:
    """Checks that the set of artifacts is complete, and describes it."""
    if not (repository / "sam3" / "config.pbtxt").is_file():
        text = f"{repository} is not a model repository (sam3/config.pbtxt is missing)"
        yield fault("repository", text, "name another one with --repository")
        return
    path = repository / CURRENT / REPORT
    try:
        report = json.loads(path.read_bytes())
        artifacts = {str(name): int(entry["bytes"]) for name, entry in report["artifacts"].items()}
        components = [str(model) for model in report["components"]]
        yield ok("repository", _described(report))
    except OSError as error:
        yield fault("repository", f"no artifacts are installed: {path}: {error.strerror}", EXPORT_AGAIN)
        return
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield fault("repository", f"{path} is damaged ({type(error).__name__}: {error})", EXPORT_AGAIN)
        return
    for model in components:
        yield _check_model(repository, model, artifacts)
    if "concepts" in report and not (repository / CONCEPT_MODEL / "config.pbtxt").is_file():
        text = f"the export has concept prompts, but {repository / CONCEPT_MODEL} is missing"
        yield fault("artifacts", text, EXPORT_AGAIN)


def has_concepts(repository: Path) -> bool | None:
    """Whether the installed export has concept prompts; None if the report is missing or damaged, which
    `check_repository` reports."""
    try:
        return "concepts" in json.loads((repository / CURRENT / REPORT).read_bytes())
    except (OSError, ValueError, TypeError):
        return None


def exported_model(repository: Path) -> ServedModel | None:
    """The model whose artifacts are installed; None if the report is missing or damaged, which `check_repository`
    reports."""
    try:
        checkpoint = json.loads((repository / CURRENT / REPORT).read_bytes())["checkpoint"]
        return ServedModel(str(checkpoint["model"]), str(checkpoint["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _described(report: dict[str, Any]) -> str:
    checkpoint, versions = report["checkpoint"], report["versions"]
    formats = sorted({str(entry["format"]) for entry in report["artifacts"].values()})
    concepts = ", with concept prompts" if "concepts" in report else ""
    return (
        f"{checkpoint['model']}, {checkpoint['source']} (sha256 {checkpoint['sha256'][:12]}...) as "
        f"{' + '.join(formats)}{concepts}, exported at {report['exported_at']} with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def _check_model(repository: Path, model: str, artifacts: dict[str, int]) -> Finding:
    link, target = repository / model / "1", repository / CURRENT / model
    if not link.is_dir():
        state = "is a broken link" if link.is_symlink() else "is missing"
        return fault("artifacts", f"{link} {state}", EXPORT_AGAIN)
    if link.resolve() != target.resolve():
        return fault("artifacts", f"{link} is {link.resolve()}, not the exported {target.resolve()}", EXPORT_AGAIN)
    files = {name: size for name, size in artifacts.items() if Path(name).parent.name == model}
    if not files:
        return fault("artifacts", f"{REPORT} names no artifact of {model}", EXPORT_AGAIN)
    for name, size in files.items():
        path = repository / CURRENT / name
        if not path.is_file():
            return fault("artifacts", f"{path} is missing", EXPORT_AGAIN)
        found = path.stat().st_size
        if found != size:
            return fault("artifacts", f"{path} has {found} bytes, not the {size} of its export", EXPORT_AGAIN)
    listed = ", ".join(f"{Path(name).name} {megabytes(size)}" for name, size in files.items())
    return ok("artifacts", f"{model}: {listed}")
