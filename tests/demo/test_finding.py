"""The finding half of `make demo`, with the tests' shared servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import PROJECT
from sam3_demo import finding


@pytest.fixture(autouse=True)
def in_repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def test_what_is_found_is_printed_and_drawn(
    serve, exported_demo_concepts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    finding.find_twice(serve(exported_demo_concepts).grpc_url, exported_demo_concepts, tmp_path)
    scene, found = (np.asarray(Image.open(path).convert("RGB")) for path in (finding.SCENE, tmp_path / "found.png"))
    assert found.shape == scene.shape
    assert 0.02 < (found != scene).any(axis=2).mean() < 0.9
    lines = capsys.readouterr().out.splitlines()
    assert "demo/shapes.jpg" in lines[0]
    assert lines[1].startswith(f'  "{finding.PHRASE}": ')
    assert "scores 0." in lines[1]
    assert lines[2].startswith(f"  like the box {finding.EXAMPLE}: ")
    assert lines[3] == f"Wrote {tmp_path}/found.png."


def test_an_export_without_concepts_is_named(
    exported_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    finding.find_twice("127.0.0.1:1", exported_demo, tmp_path)
    assert "no concept models" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
