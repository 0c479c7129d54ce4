"""How many cores this process may use, which in a container may be fewer than the host has."""

from __future__ import annotations

import os
from pathlib import Path

# "quota period" in microseconds, or "max period" where there is no quota.
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(limit: Path = CGROUP_LIMIT) -> int:
    """Of those that the process may run on, as many as its cgroup (version 2) has a quota for; at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):  # another system of quotas, or none
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))
