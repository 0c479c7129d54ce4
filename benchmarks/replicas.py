"""Starts fleets for the benchmarks: `sam3-serve` with replicas, and a proxy without affinity before them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import tritonclient.grpc as triton

from benchmarks.limit import DECODER
from benchmarks.results import BenchmarkError
from benchmarks.services import free_ports

_START_TIMEOUT_S = 300.0
_ROUND_ROBIN = """
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
listen round_robin
    bind 127.0.0.1:{port} proto h2
    balance roundrobin
"""


class Replica:
    """One running Triton of a fleet."""

    def __init__(self, process: psutil.Process, flags: dict[str, str]) -> None:
        self.process = process
        self.grpc_url = f"127.0.0.1:{flags['--grpc-port']}"
        self._metrics_url = f"http://127.0.0.1:{flags['--metrics-port']}/metrics"

    def serves(self) -> bool:
        """Whether it has answered a click since its start."""
        try:
            return self.inferences(DECODER) > 0
        except triton.InferenceServerException:
            return False

    def cache(self, name: str) -> float:
        """A value of the embedding cache: `bytes`, `entries`, ..."""
        lines = httpx.get(self._metrics_url, timeout=10).text.splitlines()
        (line,) = [line for line in lines if line.startswith(f"sam3_embedding_cache_{name}{{")]
        return float(line.split()[-1])

    def inferences(self, model: str) -> int:
        """Inferences of a model since the replica's start."""
        with triton.InferenceServerClient(self.grpc_url) as client:
            return int(client.get_inference_statistics(model).model_stats[0].inference_count)


class Fleet:
    """A running `sam3-serve` with replicas."""

    def __init__(self, process: subprocess.Popen[bytes], grpc_url: str) -> None:
        self.process = process
        self.grpc_url = grpc_url

    def replicas(self) -> list[Replica]:
        """The running Tritons, by their ports."""
        return tritons(self.process.pid)


def tritons(parent: int) -> list[Replica]:
    """The Tritons that a process has started, by their ports."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            flags = dict(argument.split("=", 1) for argument in child.cmdline() if "=" in argument)
            if child.name() == "tritonserver" and "--grpc-port" in flags:  # a process that ends has no flags
                found.append(Replica(child, flags))
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda replica: replica.grpc_url)


def inferences(replicas: list[Replica], model: str) -> int:
    """Inferences of a model on several replicas, each since its own start."""
    time.sleep(0.3)  # Triton counts a request a moment after it has answered it
    return sum(replica.inferences(model) for replica in replicas)


@contextmanager
def fleet(repository: Path, replicas: int) -> Iterator[Fleet]:
    """`sam3-serve` with that many replicas."""
    http, grpc, metrics, health = free_ports(4)
    ports = ("--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics, "--health-port", health)
    command = [sys.executable, "-m", "sam3_server.cli", "--repository", repository, "--replicas", replicas, *ports]
    with tempfile.NamedTemporaryFile(mode="wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            started = Fleet(process, f"127.0.0.1:{grpc}")
            _wait(lambda: _all_serve(started, replicas, health), process, Path(log.name))
            yield started
        finally:
            process.terminate()
            process.wait()


def _wait(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
            raise BenchmarkError(f"sam3-serve did not start: {lines[-1]}")
        time.sleep(0.2)


def _all_serve(started: Fleet, replicas: int, health_port: int) -> bool:
    try:
        front = httpx.get(f"http://127.0.0.1:{health_port}/health/ready", timeout=5).is_success
    except httpx.TransportError:
        return False
    return front and sum(replica.serves() for replica in started.replicas()) == replicas


@contextmanager
def round_robin(replicas: list[Replica]) -> Iterator[str]:
    """HAProxy that gives each call to the next replica; yields its gRPC address."""
    (port,) = free_ports(1)
    servers = [f"    server r{number} {one.grpc_url} proto h2\n" for number, one in enumerate(replicas)]
    with tempfile.NamedTemporaryFile(mode="w", suffix=".cfg") as config:
        config.write(_ROUND_ROBIN.format(port=port) + "".join(servers))
        config.flush()
        process = subprocess.Popen(["haproxy", "-q", "-f", config.name])
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
