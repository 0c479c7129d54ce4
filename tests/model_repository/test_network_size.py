from __future__ import annotations

from pathlib import Path

import pytest
from network_size import NetworkSizeError, read_network_size


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "sam3" / "exports" / "current" / "export.json"
    path.parent.mkdir(parents=True)
    (tmp_path / "sam3_preprocess").mkdir()
    return path


def test_the_size_is_read_from_the_report(report: Path, tmp_path: Path) -> None:
    report.write_text('{"image_size": 336, "interface": 0}')
    assert read_network_size(tmp_path / "sam3_preprocess") == 336


@pytest.mark.usefixtures("report")
def test_a_missing_report_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NetworkSizeError, match=r"export\.json is missing: run sam3-export into this repository$"):
        read_network_size(tmp_path / "sam3_preprocess")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b'{"image_size": null}', b'{"image_size": "x"}'])
def test_a_damaged_report_is_refused_in_one_line(report: Path, tmp_path: Path, content: bytes) -> None:
    report.write_bytes(content)
    with pytest.raises(NetworkSizeError, match=r"export\.json is damaged \(.+\): run sam3-export into") as caught:
        read_network_size(tmp_path / "sam3_preprocess")
    assert "\n" not in str(caught.value)
