"""Reads what the export's report says to the embedding cache. Knows nothing of Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Written by sam3-export beside the artifacts; the path starts at the folder of this model.
EXPORT_REPORT = Path("..") / "sam3" / "exports" / "current" / "export.json"
# Equal to that of sam3_export.spec.
INTERFACE = 3


class ExportReportError(Exception):
    """The artifacts cannot be served with this repository; the text says why and what to do."""


def read_features(model_folder: Path) -> tuple[str, ...]:
    """The names of the image encoder's outputs, which the cache keeps.

    Artifacts of another interface are refused: they would fail with obscure errors, or answer with wrong masks.

    Raises:
        ExportReportError: the report is missing, damaged, or of another interface.
    """
    report = model_folder / EXPORT_REPORT
    content = _read(report)
    if content.get("interface") != INTERFACE:
        raise ExportReportError(f"{report}: exported by another version of this project; run sam3-export")
    features = content.get("features")
    if not (isinstance(features, list) and features and all(isinstance(name, str) for name in features)):
        raise ExportReportError(f"{report} is damaged (features: {features!r}): run sam3-export into this repository")
    return tuple(features)


def _read(report: Path) -> dict[str, Any]:
    if not report.is_file():
        raise ExportReportError(f"{report} is missing: run sam3-export into this repository")
    try:
        content = json.loads(report.read_text())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except ValueError as error:
        raise ExportReportError(f"{report} is damaged ({error}): run sam3-export into this repository") from error
    return content
