"""The run on a GPU: all of it on the CPU, what becomes of stages that fail, and what it may import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.gpu import bundle, networks, report
from benchmarks.gpu.run import STAGES, Run, Stage

# Of a machine with PyTorch and transformers: what `gpu` must not need before its stage `serving`.
MISSING = {"aiohttp", "httpx", "matplotlib", "tritonclient", "pytriton", "isal", "ftfy", "fastapi"}
FAULTY = """
import os, time

def crashes(context, save):
    save({"before": 1})
    os._exit(3)

def hangs(context, save):
    save({"before": 2})
    time.sleep(600)

def lacks(context, save):
    import a_package_that_is_not_there

def raises(context, save):
    raise ValueError("a message\\nof two lines")

def works(context, save):
    save({"device": str(context.device)})
"""


def tritons() -> set[psutil.Process]:
    """The processes of Triton's that this one has started, those of other tests included."""
    return {one for one in psutil.Process().children(recursive=True) if "triton" in one.name()}


def test_every_stage_runs_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = tritons()
    assert main(["gpu", "--dry-run", "--output", str(tmp_path)]) == 0

    document = json.loads((tmp_path / "gpu.json").read_text())
    stages = document["stages"]
    assert {name: (stage["status"], stage["reason"]) for name, stage in stages.items()} == {
        stage.name: ("done", "") for stage in STAGES
    }, (tmp_path / "gpu.log").read_text()[-3000:]
    figures = {name: stage["figures"] for name, stage in stages.items()}
    for part in ("encoder", "decoder"):
        for way in ("TorchScript", "eager"):
            assert all(row["milliseconds"] > 0 for row in figures[part]["fp32"][way].values())
        assert len(figures["kernels"][part]["longest"]) == 15
    assert figures["compiled"]["decoder"]["fp32"]["1"]["milliseconds"] > 0
    assert figures["encoder"]["tflop_an_image"] > 1e-4
    assert figures["numerics"]["fp32"]["masks"] == {"count": 16, "mean_iou": 1.0, "lowest_iou": 1.0}
    assert {part: row["milliseconds"] > 0 for part, row in figures["concepts"]["fp32"].items()} == {
        "text encoder": True,
        "concept detector": True,
    }
    served = figures["serving"]
    assert served["warm_click_milliseconds"]["median"] < served["first_click_milliseconds"]["median"]
    assert served["golden_clicks"].startswith("OK: ")
    assert all(row["throughput"] > 0 for row in served["load"].values())
    assert [target["met"] for target in document["targets"][:2]] == [None, None]  # those are of fp16
    assert "| warm click by id, median |" in capsys.readouterr().out
    assert tritons() <= before


def test_a_stage_that_fails_leaves_its_figures_and_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "faulty_stages.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ("crashes", "hangs", "lacks", "raises", "works")
    Run(tmp_path, None, True, [Stage(name, f"faulty_stages:{name}", seconds=1) for name in names]).measure()

    stages = json.loads((tmp_path / "gpu.json").read_text())["stages"]
    assert {name: (one["status"], one["reason"], one["figures"]) for name, one in stages.items()} == {
        "crashes": ("failed", "its process ended; see gpu.log", {"before": 1}),
        "hangs": ("stopped", "it took more than 4 s", {"before": 2}),
        "lacks": ("skipped", "a_package_that_is_not_there is not installed", {}),
        "raises": ("failed", "ValueError: a message", {}),
        "works": ("done", "", {"device": "cpu"}),
    }


def test_it_starts_without_the_packages_of_the_other_commands(tmp_path: Path):
    bundle._copy_sources(tmp_path)
    code = f"""
import sys
class Missing:
    def find_spec(self, name, *others):
        if name.split(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing())
from benchmarks.gpu import context, networks, numerics, run, stages, worker
from benchmarks.__main__ import main
main(["gpu", "--help"])
"""
    folders = ":".join(str(tmp_path / name) for name in (".", "client", "export", "server"))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": folders}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "--packages" in done.stdout
    assert (tmp_path / "tests" / "data" / "golden" / "coffee.png").is_file()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 8 * 2**20


def test_targets_are_met_missed_or_not_measured():
    figures = {
        "encoder": {"fp16": {"TorchScript": {"1": {"milliseconds": 14.9}}}},
        "decoder": {"fp16": {"TorchScript": {"1": {"milliseconds": 3.1}}}},
        "serving": {"load": {"8 callers, masks": {"throughput": 510}, "8 callers, scores": {"throughput": 900}}},
    }
    encoder, decoder, warm, load = report.targets(figures)

    assert (encoder.met, decoder.met, warm.met, warm.measured, load.met, load.measured) == (
        True, False, None, None, True, 510,
    )  # fmt: skip


def test_the_network_is_halved_and_its_coordinates_are_not():
    network = networks.Network(networks.demonstration(torch.device("cpu")), torch.device("cpu"))

    encoder, decoder = (networks.eager(part, "fp16") for part in (network.encoder, network.decoder))
    assert encoder.encoder.conv_s0.weight.dtype == torch.float16
    assert decoder.image_positions.dtype == torch.float32
    assert network.encoder.module.encoder.conv_s0.weight.dtype == torch.float32
