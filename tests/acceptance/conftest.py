"""Long checks with figures. `make test` does not collect them, because their files are not named `test_*.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OUTPUT = Path("out") / "acceptance"


@pytest.fixture(scope="session")
def keep() -> Callable[[str, dict[str, Any]], None]:
    """Prints the figures of a check, and writes them to `out/acceptance/<name>.json`, whether or not they pass."""

    def keep_figures(name: str, figures: dict[str, Any]) -> None:
        text = json.dumps(figures, indent=2)
        OUTPUT.mkdir(parents=True, exist_ok=True)
        (OUTPUT / f"{name}.json").write_text(text + "\n")
        print(f"\n{name}: {text}", flush=True)

    return keep_figures
