"""The repository that a profile lays out: its configs, adapted to the usable cores and the export."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from repository import PROJECT, copy_repository
from sam3_server import profiles
from sam3_server.cores import usable_cores
from tritonclient.grpc import model_config_pb2


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000\n", 64), ("350000 100000\n", 3), ("50000 100000\n", 1), ("9900000 100000\n", 64)]
)
def test_a_quota_bounds_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cores: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "none") == 64


def laid_out(tmp_path: Path, profile: str, model: str) -> model_config_pb2.ModelConfig:
    repository = copy_repository(tmp_path)
    exports = repository / "sam3" / "exports"
    (exports / "20261125-abc").mkdir(parents=True)
    (exports / "current").symlink_to("20261125-abc")
    folder = tmp_path / "laid-out"
    folder.mkdir()
    profiles.lay_out(repository, profile, folder)
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("model", ["sam3_image_encoder", "sam3_mask_decoder"])
def test_the_profile_cpu_has_a_thread_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(profiles, "usable_cores", lambda: 7)
    config = laid_out(tmp_path, "cpu", model)
    assert config.parameters["intra_op_thread_count"].string_value == "7"


def test_each_export_has_its_own_engines(tmp_path: Path) -> None:
    config = laid_out(tmp_path, "tensorrt", "sam3_image_encoder")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["trt_engine_cache_path"] == "/var/cache/sam3/tensorrt/20261125-abc"
    assert accelerator.parameters["trt_timing_cache_path"] == "/var/cache/sam3/tensorrt"


def test_all_else_is_as_it_was_written(tmp_path: Path) -> None:
    config = laid_out(tmp_path, "gpu", "sam3_image_encoder")
    written = (PROJECT / "ensemble_configs" / "gpu" / "sam3_image_encoder.pbtxt").read_text()
    assert config == text_format.Parse(written, model_config_pb2.ModelConfig())
