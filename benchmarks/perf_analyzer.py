"""Runs NVIDIA's perf_analyzer: the one on the PATH, or one assembled from packages."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3_triton.wire import MODEL

from benchmarks.clicks import Click
from benchmarks.results import BenchmarkError, Latency

# The last wheel whose perf_analyzer runs with a glibc older than 2.38, and the libraries that it needs.
_WHEEL = "tritonclient==2.48.0"
_PLATFORM = ["--platform", "manylinux1_x86_64", "--only-binary=:all:"]
_CUDA_WHEEL = "nvidia-cuda-runtime-cu12<13"
_DEBIAN_PACKAGE = "libb64-0d"
_ADVICE = "with glibc 2.38 or newer: pip install perf-analyzer"
_TIMEOUT_S = 1800
# perf_analyzer repeats windows until three agree within a percentage; with one this large they always do.
_WINDOWS, _ANY_SPREAD = 3, ["--stability-percentage", "100000"]


@dataclass(frozen=True)
class Window:
    """Measure for a number of seconds, however many requests that makes."""

    seconds: float

    def flags(self) -> list[str]:
        """Always three windows: this project averages over rounds of its own."""
        milliseconds = round(1000 * self.seconds / _WINDOWS)
        return ["--measurement-interval", str(milliseconds), "--max-trials", str(_WINDOWS), *_ANY_SPREAD]


@dataclass(frozen=True)
class Requests:
    """Measure a number of requests, however long they take; each caller may send one more."""

    count: int

    def flags(self) -> list[str]:
        """One window."""
        return ["--request-count", str(self.count)]


@dataclass(frozen=True)
class PerfAnalyzer:
    """A perf_analyzer that runs here.

    Attributes:
        folder: for input data and reports.
    """

    binary: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, folder: Path) -> PerfAnalyzer:
        """The one on the PATH, or one assembled from packages, which are downloaded into `folder` the first time.

        Raises:
            BenchmarkError: neither is available.
        """
        folder = folder.resolve()  # it is run from there
        folder.mkdir(parents=True, exist_ok=True)
        on_path = shutil.which("perf_analyzer")
        found = cls(Path(on_path), folder) if on_path else cls._of_packages(folder)
        found.version()
        return found

    @classmethod
    def _of_packages(cls, folder: Path) -> PerfAnalyzer:
        packages = folder / "perf_analyzer"
        if not packages.exists():
            unfinished = folder / "perf_analyzer.part"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            _download(unfinished)
            unfinished.rename(packages)
        libraries = sorted({str(library.parent) for library in packages.rglob("lib*.so*")})
        binary = next(packages.rglob("data/bin/perf_analyzer"))
        binary.chmod(0o755)
        return cls(binary, folder, {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})

    def version(self) -> str:
        """The version that it reports.

        Raises:
            BenchmarkError: it does not run.
        """
        said = _command([str(self.binary), "--version"], env={**os.environ, **self.environment})
        return found[1] if (found := re.search(r"Version (\S+)", said)) else said.strip()

    def run(
        self, url: str, data: Path, extent: Window | Requests, *, concurrency: int = 1, rate: float | None = None
    ) -> Latency:
        """Sends the requests of a data file in turns.

        Args:
            url: `host:port` for gRPC, `http://host:port` for HTTP.
            rate: requests a second, arriving as a Poisson process, instead of `concurrency` at one time.

        Raises:
            BenchmarkError: a request failed, or the report is incomplete.
        """
        report = self.folder / "report.csv"
        report.unlink(missing_ok=True)
        protocol = "http" if url.startswith("http://") else "grpc"
        command = [str(self.binary), "-m", MODEL, "-i", protocol, "-u", url.removeprefix("http://")]
        command += ["--input-data", str(data.resolve()), "-f", report.name, "--verbose-csv", *extent.flags()]
        if rate is None:
            command += ["--concurrency-range", str(concurrency)]
        else:
            # Enough threads that no arrival waits for an earlier answer.
            command += ["--request-rate-range", str(rate), "--request-distribution", "poisson", "--max-threads", "32"]
        said = _command(command, env={**os.environ, **self.environment}, cwd=self.folder)
        return parse(report.read_text(), said, None if rate else concurrency)


def parse(report: str, said: str, concurrency: int | None) -> Latency:
    """Reads the load in a CSV report of perf_analyzer, whose times are microseconds, and in its output.

    When perf_analyzer counts requests, it rounds the time to whole seconds. With `concurrency` callers, throughput is
    therefore computed from their mean latency (Little's law).

    Raises:
        BenchmarkError: the report does not hold exactly one load, or no latencies.
    """
    rows = list(csv.DictReader(report.splitlines()))
    if len(rows) != 1:
        raise BenchmarkError(f"perf_analyzer's report holds {len(rows)} loads, not 1")
    counted = re.search(r"Request count: (\d+)", said)
    try:
        median, p90, p99 = (float(rows[0][f"p{percent} latency"]) / 1000 for percent in (50, 90, 99))
        throughput = float(rows[0]["Inferences/Second"])
        mean_s = float(rows[0]["Avg latency"]) / 1e6
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(f"perf_analyzer's report is not understood: {report!r}") from error
    if counted is None or not mean_s:
        raise BenchmarkError("perf_analyzer measured no request")
    return Latency(median, p90, p99, int(counted[1]), throughput if concurrency is None else concurrency / mean_s)


def write_data(path: Path, clicks: Sequence[Click], by: str) -> Path:
    """Writes a file of requests for `--input-data`; each names its image by `id`, or includes it as `bytes`."""
    path.write_text(json.dumps({"data": [_request(click, by) for click in clicks]}))
    return path


def _request(click: Click, by: str) -> dict[str, Any]:
    image = {"IMAGE": _bytes(click.image)} if by == "bytes" else {"CACHED_IMAGE_ID": _bytes(click.image_id.encode())}
    return {**image, "POINTS": {"content": [float(value) for value in click.point], "shape": [1, 1, 2]}}


def _bytes(value: bytes) -> dict[str, Any]:
    """A BYTES tensor of one element: its length, 4 bytes little-endian, then itself."""
    return {"content": {"b64": base64.b64encode(struct.pack("<I", len(value)) + value).decode()}, "shape": [1]}


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    _command([*pip, *_PLATFORM, _WHEEL])
    _command([*pip, _CUDA_WHEEL])
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    _command(["apt-get", "download", "--quiet", _DEBIAN_PACKAGE], cwd=folder)
    for package in folder.glob("*.deb"):
        _command(["dpkg-deb", "--extract", str(package), str(folder)])


def _command(command: list[str], **settings: Any) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, **settings)
    except OSError as error:
        raise BenchmarkError(f"{name} does not run: {error.strerror}; {_ADVICE}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{name} did not end within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BenchmarkError(f"{name} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout + done.stderr
