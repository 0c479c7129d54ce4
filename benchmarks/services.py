"""Programs that are measured, in processes of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sam3_server import Ports, TritonServer

from benchmarks.figures import BenchmarkError

# The full-size network takes a minute to be built and loaded.
_START_TIMEOUT_S = 300


@dataclass(frozen=True)
class Service:
    """An HTTP service with the contract of `/predict/mask`."""

    url: str
    pid: int | None = None  # None where it runs elsewhere


@contextmanager
def repository_copy(source: Path, **parameters: dict[str, str]) -> Iterator[Path]:
    """A copy of a repository, in which each model named has other values for some of its parameters."""
    with tempfile.TemporaryDirectory(prefix="sam3-bench-") as folder:
        copy = Path(folder) / "model_repository"
        shutil.copytree(source, copy, symlinks=True)
        for model, values in parameters.items():
            config = copy / model / "config.pbtxt"
            kept = [line for line in config.read_text().splitlines() if not any(f'"{name}"' in line for name in values)]
            added = [
                f'parameters {{ key: "{name}" value {{ string_value: "{text}" }} }}' for name, text in values.items()
            ]
            config.write_text("\n".join([*kept, *added]) + "\n")
        yield copy


@contextmanager
def serving(source: Path, flags: tuple[str, ...] = (), **parameters: dict[str, str]) -> Iterator[TritonServer]:
    """A Triton over such a copy, on ports that are free; `flags` are further ones of `tritonserver`."""
    with (
        repository_copy(source, **parameters) as repository,
        (repository.parent / "triton.log").open("w") as log,
        TritonServer(repository, log, ports=Ports(*free_ports(3)), flags=flags) as server,
    ):
        yield server


@contextmanager
def gateway(triton_url: str) -> Iterator[Service]:
    """A `sam3 gateway` in front of a Triton."""
    (port,) = free_ports(1)
    command = ["sam3_gateway.cli", "--port", str(port), "--triton", triton_url]
    with _running(command, port) as service:
        yield service


@contextmanager
def fastapi_baseline(checkpoint: Path, config: Path | None, *flags: str) -> Iterator[Service]:
    """The plain service of `fastapi_baseline.py`."""
    (port,) = free_ports(1)
    command = ["benchmarks.fastapi_baseline", "--checkpoint", str(checkpoint), "--port", str(port), *flags]
    if config is not None:
        command += ["--config", str(config)]
    with _running(command, port) as service:
        yield service


@contextmanager
def _running(module: list[str], port: int) -> Iterator[Service]:
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", *module], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                    raise BenchmarkError(f"{module[0]} did not start: {lines[-1]}")
                time.sleep(0.1)
            yield Service(url, process.pid)
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=10).is_success
    except httpx.TransportError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
