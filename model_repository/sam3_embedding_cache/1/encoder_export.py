"""Reads what the embedding cache needs from the export's report. Independent of Triton."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Written by sam3-export beside the artifacts; relative to this model's folder.
EXPORT_REPORT = Path("..") / "sam3" / "exports" / "current" / "export.json"
# Must equal sam3_export.spec.INTERFACE.
INTERFACE = 4


class ExportReportError(Exception):
    """The artifacts cannot be served with this repository; the message says why and what to do."""


@dataclass(frozen=True)
class EncoderExport:
    """An installed export.

    Attributes:
        features: names of the image encoder's outputs, which the cache keeps.
        model: the model's name, such as "SAM 3.1".
        checkpoint_sha256: of the exported checkpoint, in hex.
        queries: how many queries the concept detector has; None if it was not exported.
    """

    features: tuple[str, ...]
    model: str
    checkpoint_sha256: str
    queries: int | None = None


def read_export(model_folder: Path) -> EncoderExport:
    """Reads the report of the installed export.

    Artifacts of another interface are refused: they would fail with obscure errors or return wrong masks.

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
    match content.get("concepts"):
        case None:
            queries = None
        case {"queries": int(queries)} if queries > 0:
            pass
        case other:
            raise ExportReportError(f"{report} is damaged (concepts: {other!r}): run sam3-export into this repository")
    match content.get("checkpoint"):
        case {"model": str(model), "sha256": str(sha256)} if model and sha256:
            return EncoderExport(tuple(features), model, sha256, queries)
        case other:
            raise ExportReportError(
                f"{report} is damaged (checkpoint: {other!r}): run sam3-export into this repository"
            )


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
