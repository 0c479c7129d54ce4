"""Where `sam3-export` puts artifacts in a model repository; tests/test_layout.py keeps the packages in agreement."""

from __future__ import annotations

import json
from pathlib import Path

from sam3_server.errors import ServerError

EXPORTS = Path("sam3") / "exports"
CURRENT = EXPORTS / "current"
REPORT = CURRENT / "export.json"
# The models for concept prompts. If they are exported, the repository has a link to each; Triton serves those.
CONCEPTS = Path("sam3") / "concepts"
# The one that callers use.
CONCEPT_MODEL = "sam3_concept"
# sam3-export waits for this lock before it swaps artifacts.
SWAP_LOCK = EXPORTS / ".swap.lock"
_EXPORT_FIRST = "run sam3-export --checkpoint PATH"


def check_artifacts(repository: Path) -> None:
    """Checks that each component of the installed export is where Triton looks for it.

    Raises:
        ServerError: nothing was exported, the report cannot be read, a component's version folder is missing, or the
            links to the models for concept prompts do not fit the export.
    """
    path = repository / REPORT
    try:
        report = json.loads(path.read_bytes())
        components = list(report["components"])
    except FileNotFoundError as error:
        raise ServerError(f"{repository}: no artifact is installed; {_EXPORT_FIRST}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(f"{path}: damaged, or written by another version of this project; {_EXPORT_FIRST}") from error
    for model in components:
        if not (repository / model / "1").is_dir():
            raise ServerError(f"{repository / model}: no artifact is installed; {_EXPORT_FIRST}")
    for model in sorted(entry.parent.name for entry in (repository / CONCEPTS).glob("*/config.pbtxt")):
        if (repository / model).is_dir() != ("concepts" in report):
            state = "missing" if "concepts" in report else "of an earlier export"
            raise ServerError(f"{repository / model}: this link to {CONCEPTS / model} is {state}; {_EXPORT_FIRST}")
