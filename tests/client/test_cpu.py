"""The CPU's instructions for bf16, and what `sam3 doctor` says about them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sam3_triton.cpu import bf16_instructions
from sam3_triton.doctor import host
from sam3_triton.doctor.findings import Mark
from sam3_triton.doctor.server import ENCODER, Configs

EPYC_9654 = "flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512vbmi"
XEON_8480 = "flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile"
EPYC_7763 = "flags\t\t: fpu sse2 avx2 fma"


@pytest.mark.parametrize(
    ("line", "instructions"), [(EPYC_9654, "AVX512-BF16"), (XEON_8480, "AMX"), (EPYC_7763, None), ("", None)]
)
def test_instructions_are_read_from_the_list_of_features(line: str, instructions: str | None, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    # A bug's name is no feature.
    path.write_text(f"processor\t: 0\nmodel name\t: amx_bf16\n{line}\nbugs\t\t: amx_bf16\n\nprocessor\t: 1\n{line}\n")
    assert bf16_instructions(path) == instructions


def test_no_list_of_features_is_no_instructions(tmp_path: Path) -> None:
    assert bf16_instructions(tmp_path / "cpuinfo") is None


def configs(file_name: str, kind: str = "KIND_CPU") -> Configs:
    return Configs({ENCODER: {"default_model_filename": file_name, "instance_group": [{"kind": kind}]}}, {})


@pytest.mark.parametrize(
    ("served", "here", "instructions", "mark", "text"),
    [
        (configs("model.bf16.pt"), True, None, Mark.WARNING, "has no instructions for bf16 (AMX or AVX512-BF16); the"),
        (configs("model.bf16.pt"), True, "AMX", Mark.OK, "has AMX; the image encoder runs on it in bf16"),
        (configs("model.bf16.pt", "KIND_GPU"), True, None, Mark.OK, "has no instructions for bf16"),
        (configs("model.onnx"), True, None, Mark.OK, "has no instructions for bf16"),
        (configs("model.onnx"), True, "AMX", Mark.OK, "has AMX; the profile cpu-bf16 would use them"),
        (configs("model.bf16.pt"), False, None, Mark.SKIPPED, "not checked: the server is on another machine"),
        (Configs({}, {ENCODER: "cannot be read"}), True, None, Mark.OK, "has no instructions for bf16"),
        (None, False, "AMX", Mark.OK, "has AMX"),
    ],
)
def test_the_doctor_warns_of_bf16_on_a_cpu_without_instructions(
    served: Configs | None,
    here: bool,
    instructions: str | None,
    mark: Mark,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "bf16_instructions", lambda: instructions)
    finding = host.check_cpu(served, here)
    assert finding.mark is mark
    assert finding.text.startswith(text)
    assert bool(finding.advice) == (mark is Mark.WARNING)
