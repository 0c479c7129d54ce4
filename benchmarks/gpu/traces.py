"""What PyTorch's profiler sees of a call: kernels, and copies between host and device."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.timing import synchronize

_TOP = 15
# Of a name: template arguments make some kernels' names pages long.
_NAME_LENGTH = 100
Events = list[dict[str, Any]]


def recorded(call: Callable[[], object], device: torch.device, calls: int, folder: Path) -> Events:
    """The complete events of the profiler's trace of some calls, after one that is not recorded."""
    call()
    synchronize(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        for _ in range(calls):
            call()
        synchronize(device)
    path = folder / "trace.json"
    profiler.export_chrome_trace(str(path))
    events: Events = json.loads(path.read_text())["traceEvents"]
    path.unlink()
    return [event for event in events if event.get("ph") == "X"]


def kernels(events: Events, calls: int) -> dict[str, Any]:
    """The kernels that take the most time, per call; on a CPU, PyTorch's operators, each with those inside it."""
    category = "kernel" if torch.cuda.is_available() else "cpu_op"
    found = [event for event in events if event.get("cat") == category]
    spent: dict[str, list[float]] = defaultdict(list)
    for event in found:
        spent[event["name"][:_NAME_LENGTH]].append(event["dur"] / 1000)
    longest = sorted(spent.items(), key=lambda item: -sum(item[1]))[:_TOP]
    return {
        "category": category,
        "launches_a_call": len(found) / calls,
        "milliseconds_a_call": sum(map(sum, spent.values())) / calls,
        "longest": [
            {"name": name, "milliseconds_a_call": sum(times) / calls, "launches_a_call": len(times) / calls}
            for name, times in longest
        ],
    }


def copies(events: Events, calls: int) -> dict[str, Any]:
    """Copies by direction, such as HtoD: how many, and how many bytes, per call."""
    found: dict[str, dict[str, float]] = {}
    for event in events:
        if event.get("cat") != "gpu_memcpy":
            continue
        direction = event["name"].removeprefix("Memcpy ")
        row = found.setdefault(direction, {"copies_a_call": 0, "bytes_a_call": 0, "milliseconds_a_call": 0})
        row["copies_a_call"] += 1 / calls
        row["bytes_a_call"] += event.get("args", {}).get("bytes", 0) / calls
        row["milliseconds_a_call"] += event["dur"] / 1000 / calls
    return dict(found)
