"""The walk-through of `make demo`, with the tests' shared servers instead of its own on fixed ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import PROJECT
from sam3_demo import walkthrough
from sam3_server import ServerError


@pytest.fixture(autouse=True)
def in_repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def test_two_clicks_end_in_two_pictures(gateway: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    walkthrough.click_twice(gateway, tmp_path)
    photo, mask, overlay = (
        np.asarray(Image.open(path)) for path in (walkthrough.PHOTO, tmp_path / "mask.png", tmp_path / "overlay.png")
    )
    assert mask.shape == photo.shape[:2]
    share = (mask > 0).mean()
    assert 0 < share < 1
    changed = (overlay[..., :3] != photo[..., :3]).any(axis=2)
    assert changed[mask > 0].mean() > 0.9
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"POST {gateway}/predict/mask: tests/data/golden/coffee.png with a click at (360, 290)")
    assert "first click" in lines[1]
    assert "second click" in lines[2]
    assert lines[3].endswith(f": {share:.0%} of the photo is in the mask.")


def test_the_weights_are_named(exported: Path, exported_demo: Path) -> None:
    assert walkthrough.about_the_weights(exported) == "The weights are from sam3_tiny.pt."
    assert "small demonstration model" in walkthrough.about_the_weights(exported_demo)


def test_an_answer_that_is_an_error_ends_it(gateway: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="the gateway answered 404: .*Not Found"):
        walkthrough.click_twice(f"{gateway}/nowhere", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_busy_port_ends_it_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", walkthrough.GATEWAY_PORT))
            taken.listen()
        except OSError:  # another gateway uses it already
            pass
        command = [sys.executable, "-m", "sam3_demo"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "demo: port 8001 of 127.0.0.1 is in use; the gateway needs it\n"
    assert result.stdout == ""
