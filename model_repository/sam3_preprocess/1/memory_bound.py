"""Bounds the memory of a piece of work. Independent of Triton."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def memory_bound(more: int) -> Iterator[None]:
    """Lets the process allocate at most this many bytes beyond what it has; then allocations fail.

    It bounds the process, so all of its threads. Address space that is only reserved does not count.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:")]
    limits = [1024 * int(line.split()[1]) + more, soft, hard]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limit for limit in limits if limit != resource.RLIM_INFINITY), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
