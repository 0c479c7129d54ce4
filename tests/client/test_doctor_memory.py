"""Whether `sam3 doctor` sees that a server has too little memory for SAM 3's own size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sam3_triton.doctor import memory
from sam3_triton.doctor.findings import Mark
from sam3_triton.doctor.host import Server
from sam3_triton.doctor.server import ENCODER, Configs

HERE = Server(os.getpid(), ())
FEATURES = [(32, 288, 288), (64, 144, 144), (256, 72, 72)]


def configs(*shapes: tuple[int, ...], kind: str = "KIND_CPU", file: str = "model.onnx") -> Configs:
    """The configs of a server whose encoder has these features."""
    encoder = {
        "default_model_filename": file,
        "instance_group": [{"kind": kind}],
        "output": [
            {"name": f"FEATURES_{number}", "data_type": "TYPE_FP16", "dims": list(shape)}
            for number, shape in enumerate(shapes)
        ],
    }
    return Configs({ENCODER: encoder}, {})


@pytest.mark.parametrize(
    ("file", "needed", "available", "mark"),
    [
        ("model.onnx", "8.6 GB", 8.5e9, Mark.WARNING),
        ("model.onnx", "8.6 GB", 8.7e9, Mark.OK),
        ("model.int8.onnx", "6.9 GB", 6.8e9, Mark.WARNING),
    ],
)
def test_full_size_is_compared_with_what_it_needs(
    file: str, needed: str, available: float, mark: Mark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "limit_of", lambda pid: available)
    found = memory.check_memory(configs(*FEATURES, file=file), here=True, server=HERE)
    assert found.mark is mark
    assert needed in found.text


def test_concepts_need_more() -> None:
    clicks, concepts = configs(*FEATURES), configs(*FEATURES, (1024, 72, 72))
    concepts.by_model[ENCODER]["output"][-1]["name"] = "BACKBONE_FEATURES"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "limit_of", lambda pid: 10e9)
        marks = [memory.check_memory(one, here=True, server=HERE).mark for one in (clicks, concepts)]
    assert marks == [Mark.OK, Mark.WARNING]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (configs(*FEATURES, kind="KIND_GPU"), "its image encoder runs on a GPU"),
        (configs((32, 96, 96)), "its model is not of SAM 3's own size"),
        (configs(*FEATURES, file="model.bf16.pt"), "what model.bf16.pt needs was not measured"),
    ],
)
def test_nothing_is_claimed_of_other_servers(given: Configs, reason: str) -> None:
    found = memory.check_memory(given, here=True, server=HERE)
    assert found.mark is Mark.OK
    assert found.text.endswith(reason)


def test_a_server_elsewhere_is_not_checked() -> None:
    assert memory.check_memory(configs(*FEATURES), here=False, server=HERE).mark is Mark.SKIPPED
    assert memory.check_memory(configs(*FEATURES), here=True, server=None).mark is Mark.SKIPPED
    assert memory.check_memory(Configs({}, {ENCODER: "gone"}), here=True, server=HERE).text.endswith("gone")


@pytest.mark.parametrize(
    ("own", "above", "least"), [("max", "max", 16), ("8589934592", "max", 8), ("max", "4294967296", 4)]
)
def test_the_lowest_limit_counts(own: str, above: str, least: int, tmp_path: Path) -> None:
    processes, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (processes / "7").mkdir(parents=True)
    (processes / "meminfo").write_text(f"MemTotal:  {16 << 20} kB\nMemFree:  1 kB\n")
    (processes / "7" / "cgroup").write_text("1:cpu:/other\n0::/pod/container\n")
    (cgroups / "pod" / "container").mkdir(parents=True)
    (cgroups / "pod" / "container" / "memory.max").write_text(f"{own}\n")
    (cgroups / "pod" / "memory.max").write_text(f"{above}\n")
    assert memory.limit_of(7, processes, cgroups) == least << 30
