"""Counts the cores that this process may use; in a container these may be fewer than the host's."""

from __future__ import annotations

import os
from pathlib import Path

# "quota period" in microseconds, or "max period" without a quota.
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(limit: Path = CGROUP_LIMIT) -> int:
    """Cores that the process may run on, limited by the quota of its cgroup (version 2); at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):  # no cgroup of version 2
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def shares(count: int, limit: Path = CGROUP_LIMIT) -> list[set[int]]:
    """Divides the cores that this process may run on into `count` sets of equal size, which overlap if there are fewer
    cores than sets. Together they have as many cores as the cgroup's quota allows."""
    cores = sorted(os.sched_getaffinity(0))
    size = max(1, usable_cores(limit) // count)
    return [{cores[(number * size + index) % len(cores)] for index in range(size)} for number in range(count)]
