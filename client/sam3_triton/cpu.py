"""What this machine's CPU can compute in hardware."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Names in Linux's list of a CPU's features (`flags`), the faster instructions first. AMX multiplies tiles, the others
# vectors.
_BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
_INT8_FLAGS = {"amx_int8": "AMX", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}


def bf16_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """The instructions for bf16 of this machine's x86 CPU: "AMX", "AVX512-BF16" or None.

    None also where `cpuinfo` cannot be read, as on another system than Linux.
    """
    return _instructions(_BF16_FLAGS, cpuinfo)


def int8_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """The instructions that add 8-bit products in 32 bits: "AMX", "AVX512-VNNI", "AVX-VNNI" or None.

    None also where `cpuinfo` cannot be read.
    """
    return _instructions(_INT8_FLAGS, cpuinfo)


def _instructions(names: Mapping[str, str], cpuinfo: Path) -> str | None:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return next((name for flag, name in names.items() if flag in flags), None)
