"""Reads the network's resolution from the export's report. Independent of Triton."""

from __future__ import annotations

import json
from pathlib import Path

# Written by sam3-export beside the artifacts; relative to this model's folder.
EXPORT_REPORT = Path("..") / "sam3" / "exports" / "current" / "export.json"


class NetworkSizeError(Exception):
    """The report does not give the resolution; the message says why and what to do."""


def read_network_size(model_folder: Path) -> int:
    """Width and height of the images that the network sees, in pixels.

    Raises:
        NetworkSizeError: the report is missing or damaged.
    """
    report = model_folder / EXPORT_REPORT
    if not report.is_file():
        raise NetworkSizeError(f"{report} is missing: run sam3-export into this repository")
    try:
        return int(json.loads(report.read_text())["image_size"])
    except (ValueError, LookupError, TypeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise NetworkSizeError(f"{report} is damaged ({fault}): run sam3-export into this repository") from error
