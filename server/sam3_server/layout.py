"""Where `sam3-export` puts artifacts in a model repository; tests/test_layout.py keeps the packages in agreement."""

from __future__ import annotations

import json
from pathlib import Path

from sam3_server.errors import ServerError

EXPORTS = Path("sam3") / "exports"
CURRENT = EXPORTS / "current"
REPORT = CURRENT / "export.json"
# sam3-export waits for this lock before it swaps artifacts.
SWAP_LOCK = EXPORTS / ".swap.lock"
_EXPORT_FIRST = "run sam3-export --checkpoint PATH"


def check_artifacts(repository: Path) -> None:
    """Checks that each component of the installed export is where Triton looks for it.

    Raises:
        ServerError: nothing was exported, the report cannot be read, or a component's version folder is missing.
    """
    path = repository / REPORT
    try:
        components = list(json.loads(path.read_bytes())["components"])
    except FileNotFoundError as error:
        raise ServerError(f"{repository}: no artifact is installed; {_EXPORT_FIRST}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(f"{path}: damaged, or written by another version of this project; {_EXPORT_FIRST}") from error
    for model in components:
        if not (repository / model / "1").is_dir():
            raise ServerError(f"{repository / model}: no artifact is installed; {_EXPORT_FIRST}")
