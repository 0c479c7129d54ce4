"""The compared systems, and their measurement: several loads in turns, so that a disturbance hits all of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
import psutil
import tritonclient.grpc as triton
from sam3_triton.channels import ARGUMENTS
from sam3_triton.wire import MODEL

from benchmarks.clicks import Click
from benchmarks.limit import ENCODER, Limit
from benchmarks.results import LIMIT, SAM3, Latency, Row
from benchmarks.services import Service

# Triton counts a request a moment after it has answered it.
_SETTLE_S = 0.2
_SAMPLE_S = 0.25


class Work(NamedTuple):
    """Counts since a system's start: requests answered, and images encoded."""

    requests: int
    encodes: int


@dataclass(frozen=True)
class System:
    """One of the compared systems.

    Attributes:
        work: reads the system's counts.
        processes: the processes whose memory counts; none if they run on another machine.
    """

    name: str
    work: Callable[[], Work]
    processes: tuple[psutil.Process, ...] = ()


def triton_system(grpc_url: str, *processes: psutil.Process, name: str = SAM3) -> System:
    """A Triton that serves `sam3`, or something in front of it."""
    client = triton.InferenceServerClient(grpc_url, channel_args=ARGUMENTS)

    def work() -> Work:
        time.sleep(_SETTLE_S)
        counted = {one.name: one for one in client.get_inference_statistics().model_stats}
        return Work(counted[MODEL].inference_stats.success.count, counted[ENCODER].inference_count)

    return System(name, work, processes)


def limit_system(limit: Limit) -> System:
    """The bare networks in this process; its memory is that of the benchmark and the networks together."""
    return System(LIMIT, lambda: Work(limit.count("PNG"), limit.count("encoder")), (psutil.Process(),))


def baseline_system(service: Service, name: str) -> System:
    """A service of `fastapi_baseline.py`."""

    def work() -> Work:
        return Work(**httpx.get(f"{service.url}/health", timeout=600).json())

    return System(name, work, family(service.pid) if service.pid else ())


def family(pid: int) -> tuple[psutil.Process, ...]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return process, *process.children(recursive=True)


@dataclass(frozen=True)
class Album:
    """Images, clicks on them, and how often a system had to encode them before the measurement."""

    clicks: Sequence[Click]
    encodes: int = 0

    @property
    def images(self) -> int:
        """Number of distinct images."""
        return len({click.image_id for click in self.clicks})


@dataclass(frozen=True)
class Load:
    """A system and the requests to send to it.

    Attributes:
        run: measures one round.
        album: the images to click on; None if each request brings a new image.
        others: see `Row`.
    """

    system: System
    scenario: str
    way: str
    tool: str
    run: Callable[[], Latency]
    album: Album | None
    concurrency: int | None = 1
    rate: float | None = None


@dataclass
class _Tally:
    rounds: list[Latency] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    requests: int = 0
    encodes: int = 0


def measure(loads: Sequence[Load], rounds: int = 1) -> list[Row]:
    """Measures a row for each load. Each round runs all of them in turn. Every second round runs backwards, so that no
    load always follows the same one."""
    tallies = [_Tally() for _ in loads]
    for number in range(rounds):
        for load, tally in list(zip(loads, tallies, strict=True))[:: -1 if number % 2 else 1]:
            before = load.system.work()
            with _peak_memory(load.system.processes, tally.peaks):
                tally.rounds.append(load.run())
            after = load.system.work()
            tally.requests += after.requests - before.requests
            tally.encodes += after.encodes - before.encodes
    rows = [_row(load, tally) for load, tally in zip(loads, tallies, strict=True)]
    for row in rows:
        print(
            f"  {row.system}, {row.scenario}, {row.way}, load {row.load}: {row.latency.median_ms:.1f} ms, "
            f"{row.latency.throughput:.1f}/s",
            file=sys.stderr,
            flush=True,
        )
    return rows


def _row(load: Load, tally: _Tally) -> Row:
    return Row(
        system=load.system.name,
        scenario=load.scenario,
        way=load.way,
        tool=load.tool,
        latency=Latency.median_of(tally.rounds),
        requests=tally.requests,
        encoder_runs=tally.encodes + (load.album.encodes if load.album else 0),
        distinct_images=load.album.images if load.album else tally.requests,
        hit_rate=1 - tally.encodes / tally.requests,
        peak_mib=max(tally.peaks, default=None),
        concurrency=load.concurrency,
        rate=load.rate,
    )


@contextmanager
def _peak_memory(processes: Sequence[psutil.Process], peaks: list[float]) -> Iterator[None]:
    """Samples the resident memory of the processes together, and adds its peak in MiB to `peaks`."""
    if not processes:
        yield
        return
    samples: list[float] = []
    stopping = threading.Event()

    def sample() -> None:
        while True:
            samples.append(sum(process.memory_info().rss for process in processes) / 2**20)
            if stopping.wait(_SAMPLE_S):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        stopping.set()
        sampler.join()
    peaks.append(max(samples))
