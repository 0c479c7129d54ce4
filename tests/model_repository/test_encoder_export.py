from __future__ import annotations

import json
from pathlib import Path

import pytest
from encoder_export import INTERFACE, EncoderExport, ExportReportError, read_export
from sam3_export import spec

CHECKPOINT = {"model": "SAM 3.1", "sha256": "0123", "source": "sam3.1.pt"}
FEATURES = ["HIGH_RES_FEATURES_0", "IMAGE_EMBEDDING"]
GOOD = {"interface": INTERFACE, "checkpoint": CHECKPOINT, "features": FEATURES}


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


def test_features_and_model_are_those_of_the_report(report: Path, model_folder: Path) -> None:
    report.write_text(json.dumps({**GOOD, "features": FEATURES[::-1], "image_size": 336}))
    assert read_export(model_folder) == EncoderExport(("IMAGE_EMBEDDING", "HIGH_RES_FEATURES_0"), "SAM 3.1", "0123")


def test_concepts_are_those_of_the_report(report: Path, model_folder: Path) -> None:
    report.write_text(json.dumps({**GOOD, "concepts": {"queries": 200}}))
    assert read_export(model_folder).queries == 200


def test_the_interface_is_the_exporters() -> None:
    assert spec.INTERFACE == INTERFACE


def test_a_missing_report_names_the_command(model_folder: Path) -> None:
    with pytest.raises(ExportReportError, match=r"export\.json is missing: run sam3-export into this repository$"):
        read_export(model_folder)


@pytest.mark.parametrize("interface", [INTERFACE - 1, INTERFACE + 1, None])
def test_artifacts_of_another_interface_are_refused(report: Path, model_folder: Path, interface: int | None) -> None:
    report.write_text(json.dumps({**GOOD, "interface": interface}))
    with pytest.raises(ExportReportError, match="exported by another version of this project; run sam3-export$"):
        read_export(model_folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        json.dumps(GOOD)[:-9].encode(),
        b'{"interface": "\xff"}',
        b'["interface"]',
        *(
            json.dumps({**GOOD, **part}).encode()
            for part in (
                {"features": None},
                {"features": []},
                {"features": "IMAGE_EMBEDDING"},
                {"features": ["IMAGE_EMBEDDING", 1]},
                {"concepts": {}},
                {"concepts": {"queries": "200"}},
                {"concepts": {"queries": 0}},
                {"concepts": 200},
                {"checkpoint": None},
                {"checkpoint": "SAM 3.1"},
                {"checkpoint": {"sha256": "0123"}},
                {"checkpoint": {**CHECKPOINT, "model": ""}},
                {"checkpoint": {**CHECKPOINT, "sha256": 123}},
            )
        ),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(report: Path, model_folder: Path, content: bytes) -> None:
    report.write_bytes(content)
    with pytest.raises(ExportReportError, match=r"export\.json is damaged \(.+\): run sam3-export into") as caught:
        read_export(model_folder)
    assert "\n" not in str(caught.value)
