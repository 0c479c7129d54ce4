"""A repository to break."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import copy_repository, link_artifacts


@pytest.fixture
def linked(exported: Path, tmp_path: Path) -> Path:
    """A repository with its own configs and the artifacts shared by all tests, which must not be written to."""
    repository = copy_repository(tmp_path)
    link_artifacts(exported, repository)
    return repository
