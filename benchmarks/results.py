"""The results of a run: latencies, the rows of the table, the parts of a click. Kept as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

# Names in the rows.
LIMIT, SAM3, GATEWAY, RESPONSE_CACHE = "limit", "sam3", "gateway", "Triton's response cache"
PLAIN_BASELINE, LAST_IMAGE_BASELINE = "FastAPI", "FastAPI, last image"
# Number of callers, and of images, in the comparison of throughput.
CALLERS = 8


class Scenario:
    """Names of scenarios."""

    WARM_BY_ID = "warm by id"
    WARM_BY_BYTES = "warm by bytes"
    COLD = "cold"
    TRACE = "click trace"
    TOGETHER = "first clicks together"
    UPLOAD = "image upload"
    BOXES_TOGETHER = "boxes in one request"
    BOXES_APART = "boxes one by one"


class Tool:
    """Names of the programs and functions that send requests."""

    PERF = "perf_analyzer"
    CLIENT = "Sam3Client"
    PREPARED = "tritonclient"
    TRANSPORT = "client's transport"
    PLAIN = "plain calls"
    UPLOADS = "uploads"


_PACKAGES = ("sam3-triton", "onnxruntime", "torch", "numpy", "opencv-python-headless", "tritonclient", "fastapi")


class BenchmarkError(RuntimeError):
    """A measurement failed or measured the wrong thing; the message names the problem."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one kind of request, the number of requests, and answers a second."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    count: int
    throughput: float

    @classmethod
    def of(cls, seconds: Sequence[float], elapsed_s: float | None = None) -> Latency:
        """Percentiles of single measurements, linearly interpolated.

        Args:
            elapsed_s: how long they took together; None if the requests did not overlap.

        Raises:
            BenchmarkError: there are no measurements.
        """
        if not len(seconds):
            raise BenchmarkError("no request was measured")
        median, p90, p99 = (float(value) for value in 1000 * np.percentile(seconds, (50, 90, 99)))
        throughput = len(seconds) / (sum(seconds) if elapsed_s is None else elapsed_s)
        return cls(median, p90, p99, len(seconds), throughput)

    @classmethod
    def median_of(cls, rounds: Sequence[Latency]) -> Latency:
        """The median of each figure over several rounds, and the sum of their requests."""
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
        scenario: `cold`, `warm by id`, `warm by bytes`, `click trace`, ...
        way: the transport of the requests: `in process`, `gRPC`, `HTTP`, `shared memory`.
        tool: what sent and timed them.
        requests: all requests that the system answered, including those that the tool did not count.
        encoder_runs: images that the encoder processed since the first of `distinct_images` was sent.
        hit_rate: share of the requests for which no encoder ran.
        peak_mib: largest resident memory of all processes of the system. Memory that they share counts in each. None
            if they run on another machine.
        concurrency: requests at one time; None under an open loop.
        rate: arrivals a second under an open loop, however long answers take.
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


@dataclass(frozen=True)
class Segment:
    """A part of a click: the model or program, the kind of work (see `waterfall.segments`), and how long it took."""

    step: str
    kind: str
    milliseconds: float


@dataclass
class Results:
    """One run.

    Attributes:
        title: what was run.
        full_size: whether the network had SAM 3's own size; False for the demonstration model.
        about: machine and versions, by name.
        settings: how much was measured, by name.
        waterfalls: of a warm click, by system.
        notes: what could not be measured, and why.
    """

    title: str
    full_size: bool = False
    about: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    waterfalls: dict[str, list[Segment]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(
        self, system: str, scenario: str, tool: str, way: str | None = None, concurrency: int | None = 1
    ) -> Row | None:
        """The row of that kind; None if it was not measured."""
        for row in self.rows:
            if (row.system, row.scenario, row.tool, row.concurrency) == (system, scenario, tool, concurrency) and (
                way is None or row.way == way
            ):
                return row
        return None

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads a file that `save` wrote.

        Raises:
            BenchmarkError: the file cannot be read, or does not hold results.
        """
        try:
            values = json.loads(path.read_text())
            rows = [Row(**{**row, "latency": Latency(**row["latency"])}) for row in values.pop("rows")]
            waterfalls = {
                name: [Segment(**segment) for segment in parts] for name, parts in values.pop("waterfalls").items()
            }
            return cls(rows=rows, waterfalls=waterfalls, **values)
        except OSError as error:
            raise BenchmarkError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BenchmarkError(f"{path}: not a results file of these benchmarks ({error})") from error


def about_here() -> dict[str, str]:
    """This machine and the versions of its software."""
    found = {
        "processor": _processor(),
        "cores": str(len(psutil.Process().cpu_affinity())),
        "load before": f"{psutil.getloadavg()[0]:.1f} processes that want a core",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
