from __future__ import annotations

import json
from pathlib import Path

import pytest
from encoder_export import INTERFACE, ExportReportError, read_features
from sam3_export import spec

FEATURES = ["HIGH_RES_FEATURES_0", "IMAGE_EMBEDDING"]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "sam3" / "exports" / "current" / "export.json"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sam3_embedding_cache"
    folder.mkdir()
    return folder


def test_the_features_are_those_of_the_report_in_its_order(report: Path, model_folder: Path) -> None:
    report.write_text(json.dumps({"interface": INTERFACE, "features": FEATURES[::-1], "image_size": 336}))
    assert read_features(model_folder) == ("IMAGE_EMBEDDING", "HIGH_RES_FEATURES_0")


def test_the_interface_is_the_exporters() -> None:
    assert spec.INTERFACE == INTERFACE


def test_a_missing_report_names_the_command(model_folder: Path) -> None:
    with pytest.raises(ExportReportError, match=r"export\.json is missing: run sam3-export into this repository$"):
        read_features(model_folder)


@pytest.mark.parametrize("interface", [{"interface": INTERFACE - 1}, {"interface": INTERFACE + 1}, {}])
def test_artifacts_of_another_interface_are_refused(report: Path, model_folder: Path, interface: dict) -> None:
    report.write_text(json.dumps({**interface, "features": FEATURES}))
    with pytest.raises(ExportReportError, match="exported by another version of this project; run sam3-export$"):
        read_features(model_folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        json.dumps({"interface": INTERFACE, "features": FEATURES})[:-9].encode(),
        b'{"interface": "\xff"}',
        b'["interface"]',
        *(
            json.dumps({"interface": INTERFACE, **features}).encode()
            for features in (
                {},
                {"features": []},
                {"features": "IMAGE_EMBEDDING"},
                {"features": ["IMAGE_EMBEDDING", 1]},
            )
        ),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(report: Path, model_folder: Path, content: bytes) -> None:
    report.write_bytes(content)
    with pytest.raises(ExportReportError, match=r"export\.json is damaged \(.+\): run sam3-export into") as caught:
        read_features(model_folder)
    assert "\n" not in str(caught.value)
