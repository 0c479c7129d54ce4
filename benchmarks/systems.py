"""What is measured, and the measuring itself: several ways in turns, so that whatever disturbs one disturbs all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
import psutil
import tritonclient.grpc as triton
from sam3_triton.wire import CHANNEL_ARGUMENTS, MODEL

from benchmarks.clicks import Click
from benchmarks.figures import Latency, Row
from benchmarks.limit import Limit
from benchmarks.observer import ENCODER, family, peak_memory, statistics
from benchmarks.services import Service

# Triton counts a request a moment after it was answered.
_SETTLE_S = 0.2


class Work(NamedTuple):
    """What a system has done since its start: requests answered, and images encoded."""

    requests: int
    encodes: int


@dataclass(frozen=True)
class System:
    """One of those that are compared.

    Attributes:
        work: asks it what it has done.
        processes: whose memory counts; none where they run elsewhere.
    """

    name: str
    work: Callable[[], Work]
    processes: tuple[psutil.Process, ...] = ()


@dataclass(frozen=True)
class Album:
    """Images, clicks on them, and how often a system had to encode them before the measurement."""

    clicks: Sequence[Click]
    encodes: int = 0

    @property
    def images(self) -> int:
        """Distinct images."""
        return len({click.image_id for click in self.clicks})


@dataclass(frozen=True)
class Way:
    """One way of loading a system.

    Attributes:
        run: one round of it.
        album: what it clicks on; None where each request brings an image that nobody has seen.
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


def measure(ways: Sequence[Way], rounds: int = 1) -> list[Row]:
    """A row for each way; each round takes all of them in turn, forwards and backwards, so that none has the same
    neighbour each time."""
    tallies = [_Tally() for _ in ways]
    for number in range(rounds):
        for way, tally in list(zip(ways, tallies, strict=True))[:: -1 if number % 2 else 1]:
            before = way.system.work()
            with peak_memory(way.system.processes) as peak:
                tally.rounds.append(way.run())
            after = way.system.work()
            tally.requests += after.requests - before.requests
            tally.encodes += after.encodes - before.encodes
            tally.peaks += [] if (mib := peak()) is None else [mib]
    rows = [_row(way, tally) for way, tally in zip(ways, tallies, strict=True)]
    for row in rows:
        print(
            f"  {row.system}, {row.scenario}, {row.way}, load {row.load}: {row.latency.median_ms:.1f} ms, "
            f"{row.latency.throughput:.1f}/s",
            file=sys.stderr,
            flush=True,
        )
    return rows


def _row(way: Way, tally: _Tally) -> Row:
    return Row(
        system=way.system.name,
        scenario=way.scenario,
        way=way.way,
        tool=way.tool,
        latency=Latency.median_of(tally.rounds),
        requests=tally.requests,
        encoder_runs=tally.encodes + (way.album.encodes if way.album else 0),
        distinct_images=way.album.images if way.album else tally.requests,
        hit_rate=1 - tally.encodes / tally.requests,
        peak_mib=max(tally.peaks, default=None),
        concurrency=way.concurrency,
        rate=way.rate,
    )


def triton_system(grpc_url: str, *processes: psutil.Process, name: str = "sam3") -> System:
    """A Triton that serves `sam3`, or something in front of it."""
    client = triton.InferenceServerClient(grpc_url, channel_args=CHANNEL_ARGUMENTS)

    def work() -> Work:
        time.sleep(_SETTLE_S)
        counted = statistics(client)
        return Work(counted[MODEL].requests, counted[ENCODER].inferences)

    return System(name, work, processes)


def limit_system(limit: Limit) -> System:
    """The bare networks, in this process; its memory is that of the benchmark, the networks included."""

    def work() -> Work:
        return Work(limit.count("PNG"), limit.count("encoder"))

    return System("limit", work, (psutil.Process(),))


def baseline_system(service: Service, name: str) -> System:
    """A service of `fastapi_baseline.py`."""

    def work() -> Work:
        return Work(**httpx.get(f"{service.url}/health", timeout=600).json())

    return System(name, work, family(service.pid) if service.pid else ())
