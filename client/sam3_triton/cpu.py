"""What this machine's CPU can compute in hardware."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Names in Linux's list of a CPU's features (`flags`), the faster instructions first. AMX multiplies tiles, AVX512-BF16
# vectors.
_BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}


def bf16_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """The instructions for bf16 of this machine's x86 CPU: "AMX", "AVX512-BF16" or None.

    None also where `cpuinfo` cannot be read, as on another system than Linux.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return next((name for flag, name in _BF16_FLAGS.items() if flag in flags), None)
