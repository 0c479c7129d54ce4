"""What is measured: latencies, and a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


class BenchmarkError(RuntimeError):
    """A measurement that cannot be had, or that measured something else than it says; the text names the fault."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one kind of request, how many there were, and answers a second."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    count: int
    throughput: float

    @classmethod
    def of(cls, seconds: Sequence[float], elapsed_s: float | None = None) -> Latency:
        """Percentiles of single measurements, linearly interpolated.

        Args:
            elapsed_s: how long they took together; left out where one came after the other.

        Raises:
            BenchmarkError: there are none.
        """
        if not len(seconds):
            raise BenchmarkError("no request was measured")
        median, p90, p99 = (float(value) for value in 1000 * np.percentile(seconds, (50, 90, 99)))
        throughput = len(seconds) / (sum(seconds) if elapsed_s is None else elapsed_s)
        return cls(median, p90, p99, len(seconds), throughput)

    @classmethod
    def median_of(cls, rounds: Sequence[Latency]) -> Latency:
        """Of several rounds: the median of each figure, and all the requests."""
        if not rounds:
            raise BenchmarkError("no round was measured")
        figures = [(one.median_ms, one.p90_ms, one.p99_ms, one.throughput) for one in rounds]
        median, p90, p99, throughput = (float(value) for value in np.median(figures, axis=0))
        return cls(median, p90, p99, sum(one.count for one in rounds), throughput)


@dataclass(frozen=True)
class Row:
    """One system under one load.

    Attributes:
        system: what was measured: `limit`, `sam3`, `gateway`, `FastAPI`, ...
        scenario: `cold`, `warm by id`, `warm by bytes`, `click trace`.
        way: how requests got there: `in process`, `gRPC`, `HTTP`.
        tool: what sent and timed them.
        concurrency: requests at one time; None under an open loop.
        rate: arrivals a second under an open loop, however long answers take.
        requests: how many the system answered, those included that the tool did not count.
        encoder_runs: images that the encoder was given since the first of `distinct_images` was sent.
        hit_rate: share of the requests for which no encoder ran.
        peak_mib: largest resident memory of all processes of the system; memory that they share counts in each. None
            where they run elsewhere.
    """

    system: str
    scenario: str
    way: str
    tool: str
    latency: Latency
    requests: int
    encoder_runs: int
    distinct_images: int
    hit_rate: float
    peak_mib: float | None
    concurrency: int | None = 1
    rate: float | None = None

    @property
    def load(self) -> str:
        """The load in words."""
        return f"{self.rate:.0f}/s" if self.rate is not None else f"{self.concurrency}"

    @property
    def encodes_per_image(self) -> float:
        """How often the encoder ran for an image."""
        return self.encoder_runs / self.distinct_images

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        """The counterpart of `to_json`."""
        return cls(**{**values, "latency": Latency(**values["latency"])})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
