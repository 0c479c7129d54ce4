"""The repository that a profile lays out: its configs, adapted to the usable cores and the export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from repository import PROJECT, copy_repository
from sam3_server import ServerError, profiles
from sam3_server.cores import shares, usable_cores
from sam3_server.layout import CONCEPTS, REPORT, check_artifacts
from tritonclient.grpc import model_config_pb2


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000\n", 64), ("350000 100000\n", 3), ("50000 100000\n", 1), ("9900000 100000\n", 64)]
)
def test_a_quota_bounds_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cores: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "none") == 64
    parts = shares(2, tmp_path / "cpu.max")
    assert [len(part) for part in parts] == [max(1, cores // 2)] * 2
    assert not parts[0] & parts[1]


def laid_out(
    tmp_path: Path, profile: str, model: str, concepts: bool = False, image_size: int = 1008
) -> model_config_pb2.ModelConfig:
    repository = copy_repository(tmp_path)
    if concepts:
        show_concepts(repository)
    exports = repository / "sam3" / "exports"
    (exports / "20261125-abc").mkdir(parents=True)
    (exports / "current").symlink_to("20261125-abc")
    (exports / "current" / "export.json").write_text(json.dumps({"image_size": image_size}))
    folder = tmp_path / "laid-out"
    folder.mkdir()
    profiles.lay_out(repository, profile, folder)
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def show_concepts(repository: Path) -> None:
    """Makes the links of an export with concept prompts."""
    for folder in (repository / CONCEPTS).iterdir():
        (repository / folder.name).symlink_to(CONCEPTS / folder.name)


@pytest.mark.parametrize("model", ["sam3_image_encoder", "sam3_mask_decoder"])
def test_the_profile_cpu_has_a_thread_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(profiles, "usable_cores", lambda: 7)
    config = laid_out(tmp_path, "cpu", model)
    assert config.parameters["intra_op_thread_count"].string_value == "7"


def test_a_small_decoder_has_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "usable_cores", lambda: 7)
    for image_size, threads in ((252, "1"), (1008, "7")):
        folder = tmp_path / str(image_size)
        folder.mkdir()
        config = laid_out(folder, "cpu", "sam3_mask_decoder", image_size=image_size)
        assert config.parameters["intra_op_thread_count"].string_value == threads


def test_each_export_has_its_own_engines(tmp_path: Path) -> None:
    config = laid_out(tmp_path, "tensorrt", "sam3_image_encoder")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_engine_cache_path"] == "/var/cache/sam3/tensorrt/20261125-abc"
    assert accelerator.parameters["trt_timing_cache_path"] == "/var/cache/sam3/tensorrt"


def test_all_else_is_as_it_was_written(tmp_path: Path) -> None:
    config = laid_out(tmp_path, "gpu", "sam3_image_encoder")
    written = (PROJECT / "ensemble_configs" / "gpu" / "sam3_image_encoder.pbtxt").read_text()
    assert config == text_format.Parse(written, model_config_pb2.ModelConfig())


def test_with_concepts_the_profiles_configs_for_them_apply(tmp_path: Path) -> None:
    for concepts in (False, True):
        folder = tmp_path / str(concepts)
        folder.mkdir()
        encoder = laid_out(folder, "torchscript", "sam3_image_encoder", concepts)
        assert ("BACKBONE_FEATURES" in [tensor.name for tensor in encoder.output]) == concepts
        laid = {entry.name for entry in (folder / "laid-out").iterdir()}
        assert (
            {"sam3_concept", "sam3_text_encoder", "sam3_text_cache"} <= laid if concepts else "sam3_concept" not in laid
        )
    detector = text_format.Parse(
        (tmp_path / "True" / "laid-out" / "sam3_concept_detector" / "config.pbtxt").read_text(),
        model_config_pb2.ModelConfig(),
    )
    assert detector.default_model_filename == "model.pt"
    # What the profile does not replace is the repository's own.
    assert (tmp_path / "True" / "laid-out" / "sam3_text_cache" / "1" / "model.py").is_file()


@pytest.mark.parametrize("exported", [False, True])
def test_links_to_concepts_fit_the_export(tmp_path: Path, exported: bool) -> None:
    repository = copy_repository(tmp_path)
    report = repository / REPORT
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"components": {}, **({"concepts": {"queries": 200}} if exported else {})}))
    state = "missing" if exported else "of an earlier export"
    if not exported:
        check_artifacts(repository)
        show_concepts(repository)
    with pytest.raises(ServerError, match=rf"sam3_concept: this link to .+ is {state}; run sam3-export"):
        check_artifacts(repository)
    if exported:
        show_concepts(repository)
        check_artifacts(repository)


@pytest.mark.parametrize(
    ("profile", "cores", "instances"), [("cpu", 7, 2), ("gpu", 7, 7), ("gpu", 64, 8), ("gpu", 1, 1)]
)
def test_as_many_processes_prepare_images_as_can_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, cores: int, instances: int
) -> None:
    monkeypatch.setattr(profiles, "usable_cores", lambda: cores)
    (group,) = laid_out(tmp_path, profile, "sam3_preprocess").instance_group
    assert group.count == instances
