"""Every package spells out where artifacts lie, once, and all of them agree."""

from __future__ import annotations

import json
from pathlib import Path

import encoder_export
import golden_concepts
import network_size
import pytest
from repository import PROJECT, formats_here
from sam3_export import installation, spec
from sam3_export.components import CLICKS, CONCEPTS
from sam3_export.formats import FORMATS
from sam3_server import ServerError, layout
from sam3_triton.doctor import golden, repository

CURRENT = Path("sam3") / "exports" / "current"
REPORT = CURRENT / "export.json"


def test_the_packages_agree() -> None:
    assert installation.EXPORTS / installation.CURRENT == layout.CURRENT == repository.CURRENT == CURRENT
    assert CURRENT / installation.REPORT == layout.REPORT == repository.CURRENT / repository.REPORT == REPORT
    assert installation.EXPORTS / installation.SWAP_LOCK == layout.SWAP_LOCK
    assert golden.FOLDER.parent == CURRENT


def test_the_python_models_look_there_too() -> None:
    # From a model's own folder.
    for path in (encoder_export.EXPORT_REPORT, network_size.EXPORT_REPORT):
        assert path == Path("..") / REPORT


def test_exporter_and_cache_are_of_one_interface() -> None:
    assert encoder_export.INTERFACE == spec.INTERFACE


def test_an_export_names_its_components_formats_and_features(exported_demo: Path) -> None:
    report = json.loads((exported_demo / REPORT).read_text())
    assert list(report["components"]) == [component.name for component in CLICKS]
    assert {entry["format"] for entry in report["artifacts"].values()} == set(formats_here())
    for name, entry in report["artifacts"].items():
        assert Path(name).name == FORMATS[entry["format"]].file_name
        assert Path(name).parent.name in report["components"]
    assert report["features"] == ["HIGH_RES_FEATURES_0", "HIGH_RES_FEATURES_1", "IMAGE_EMBEDDING"]
    assert "concepts" not in report
    assert "concepts" not in report["architecture"]


def test_an_export_of_concepts_names_more(exported_concepts: Path) -> None:
    report = json.loads((exported_concepts / REPORT).read_text())
    assert list(report["components"]) == [component.name for component in (*CLICKS, *CONCEPTS)]
    assert report["features"][3:] == ["BACKBONE_FEATURES"]
    assert report["concepts"] == {"queries": json.loads(golden_concepts.CONFIG.read_text())["concepts"]["num_queries"]}


def test_each_component_has_a_model_in_the_repository() -> None:
    repository = PROJECT / "model_repository"
    for folder, components in ((repository, CLICKS), (repository / "sam3" / "concepts", CONCEPTS)):
        for component in components:
            assert (folder / component.name / "config.pbtxt").is_file()


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_a_report_that_is_damaged_stops_a_server_with_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / REPORT
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ServerError, match="export.json: damaged, or written by another version"):
        layout.check_artifacts(tmp_path)


def test_a_component_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / REPORT
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"components": {"sam3_text_encoder": "text encoder"}}))
    with pytest.raises(ServerError, match="sam3_text_encoder: no artifact is installed; run sam3-export"):
        layout.check_artifacts(tmp_path)
