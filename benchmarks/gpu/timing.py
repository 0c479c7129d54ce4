"""Times calls on a GPU by CUDA events, and on a CPU by the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Amount:
    """How long to measure: at least `calls`, and more until `seconds` have passed; a third as long to warm up."""

    calls: int
    seconds: float


def median_ms(call: Callable[[], object], device: torch.device, amount: Amount) -> float:
    """The median milliseconds of a call, launch gaps included, after a warm-up."""
    _repeat(call, device, Amount(max(1, amount.calls // 3), amount.seconds / 3))
    return statistics.median(_repeat(call, device, amount))


def wall_ms(call: Callable[[], object], device: torch.device, amount: Amount) -> float:
    """The median milliseconds until the host has a call's result, as a caller waits for it."""
    seconds = []
    for _ in range(amount.calls):
        started = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _repeat(call: Callable[[], object], device: torch.device, amount: Amount) -> list[float]:
    synchronize(device)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < amount.calls or time.perf_counter() - started < amount.seconds:
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            before = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - before))
    return times
