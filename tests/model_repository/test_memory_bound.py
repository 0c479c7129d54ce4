from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import memory_bound as memory_bound_module
import pytest
from memory_bound import memory_bound

MEBIBYTE = 1 << 20


def test_an_allocation_beyond_the_bound_fails_and_later_ones_do_not() -> None:
    # In a process of its own: what earlier tests left could be freed meanwhile, which makes room below the bound.
    code = f"""if True:
        import resource, sys
        sys.path.insert(0, {str(Path(memory_bound_module.__file__).parent)!r})
        import numpy as np
        from memory_bound import memory_bound
        before = resource.getrlimit(resource.RLIMIT_DATA)
        with memory_bound({60 * MEBIBYTE}):
            assert np.ones({40 * MEBIBYTE}, np.uint8).all()
            try:
                np.ones({80 * MEBIBYTE}, np.uint8)
            except MemoryError:
                print("refused")
        assert np.ones({80 * MEBIBYTE}, np.uint8).all()
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    """
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert output.split() == ["refused"]


def test_the_bound_is_removed_after_an_error() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(KeyError), memory_bound(0):
        raise KeyError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_stricter_limit_of_the_process_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    strict, hard = 8 << 30, before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (strict, hard))
    try:
        with memory_bound(64 << 40):
            assert resource.getrlimit(resource.RLIMIT_DATA) == (strict, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
