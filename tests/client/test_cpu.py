"""The CPU's instructions for bf16 and int8, and what `sam3 doctor` says about them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sam3_triton.cpu import bf16_instructions, int8_instructions
from sam3_triton.doctor import host
from sam3_triton.doctor.findings import Mark
from sam3_triton.doctor.server import ENCODER, Configs

EPYC_9654 = "flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512vbmi avx512_vnni"
XEON_8480 = "flags\t\t: fpu sse2 avx2 avx_vnni avx512f avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8"
XEON_6252 = "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni"
CORE_12900 = "flags\t\t: fpu sse2 avx2 avx_vnni"
EPYC_7763 = "flags\t\t: fpu sse2 avx2 fma"


@pytest.mark.parametrize(
    ("line", "bf16", "int8"),
    [
        (EPYC_9654, "AVX512-BF16", "AVX512-VNNI"),
        (XEON_8480, "AMX", "AMX"),
        (XEON_6252, None, "AVX512-VNNI"),
        (CORE_12900, None, "AVX-VNNI"),
        (EPYC_7763, None, None),
        ("", None, None),
    ],
)
def test_instructions_are_read_from_the_list_of_features(
    line: str, bf16: str | None, int8: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    # A bug's name is no feature.
    path.write_text(f"processor\t: 0\nmodel name\t: amx_bf16\n{line}\nbugs\t\t: amx_bf16\n\nprocessor\t: 1\n{line}\n")
    assert (bf16_instructions(path), int8_instructions(path)) == (bf16, int8)


def test_no_list_of_features_is_no_instructions(tmp_path: Path) -> None:
    assert bf16_instructions(tmp_path / "cpuinfo") is None
    assert int8_instructions(tmp_path / "cpuinfo") is None


def configs(file_name: str, kind: str = "KIND_CPU") -> Configs:
    return Configs({ENCODER: {"default_model_filename": file_name, "instance_group": [{"kind": kind}]}}, {})


NONE = "has no instructions for bf16 (AMX or AVX512-BF16), none for int8 (AMX or VNNI)"
ALL = "has AMX for bf16, AMX for int8"


@pytest.mark.parametrize(
    ("served", "here", "instructions", "mark", "text"),
    [
        (configs("model.bf16.pt"), True, None, Mark.WARNING, f"{NONE}; the image encoder runs on it in bf16"),
        (configs("model.bf16.pt"), True, "AMX", Mark.OK, f"{ALL}; the image encoder runs on it in bf16"),
        (configs("model.bf16.pt", "KIND_GPU"), True, None, Mark.OK, NONE),
        (configs("model.int8.onnx"), True, None, Mark.FAULT, f"{NONE}; the image encoder's sums overflow on it"),
        (configs("model.int8.onnx"), True, "AMX", Mark.OK, f"{ALL}; the image encoder runs on it in int8"),
        (configs("model.onnx"), True, None, Mark.OK, NONE),
        (configs("model.onnx"), True, "AMX", Mark.OK, f"{ALL}; cpu-bf16 and cpu-int8 would use them"),
        (configs("model.bf16.pt"), False, None, Mark.SKIPPED, "not checked: the server is on another machine"),
        (Configs({}, {ENCODER: "cannot be read"}), True, None, Mark.OK, NONE),
        (None, False, "AMX", Mark.OK, ALL),
    ],
)
def test_the_doctor_tells_what_the_cpu_lacks(
    served: Configs | None,
    here: bool,
    instructions: str | None,
    mark: Mark,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "bf16_instructions", lambda: instructions)
    monkeypatch.setattr(host, "int8_instructions", lambda: instructions)
    finding = host.check_cpu(served, here)
    assert finding.mark is mark
    assert finding.text.startswith(text)
    assert bool(finding.advice) == (mark in (Mark.WARNING, Mark.FAULT))
