from __future__ import annotations

import resource

import numpy as np
import pytest
from memory_bound import memory_bound

MEBIBYTE = 1 << 20


def test_an_allocation_beyond_the_bound_fails_and_later_ones_do_not() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_bound(60 * MEBIBYTE):
        assert np.ones(40 * MEBIBYTE, np.uint8).all()
        with pytest.raises(MemoryError):
            np.ones(80 * MEBIBYTE, np.uint8)
    assert np.ones(80 * MEBIBYTE, np.uint8).all()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


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
