"""Freed memory is reused, instead of being cleared by the system again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import heap
import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_memory_that_was_freed_is_not_faulted_in_again() -> None:
    code = f"""if True:
        import resource, sys
        sys.path.insert(0, {str(Path(heap.__file__).parent)!r})
        import numpy as np
        from heap import keep_freed_memory
        if sys.argv[1] == "kept":
            keep_freed_memory(64 << 20)
        for number in range(6):
            if number == 2:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            blocks = [np.ones(20 << 20, np.uint8) for _ in range(2)]
            del blocks
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """

    def faults(way: str) -> int:
        return int(subprocess.run([sys.executable, "-c", code, way], capture_output=True, check=True, text=True).stdout)

    assert faults("kept") < 100
    assert faults("returned") > 1000
