"""A repository to break."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import copy_repository, link_artifacts


@pytest.fixture
def linked(exported_demo: Path, tmp_path: Path) -> Path:
    """A repository with its own configs and with the shared artifacts of every format: do not write to those."""
    repository = copy_repository(tmp_path)
    link_artifacts(exported_demo, repository)
    return repository
