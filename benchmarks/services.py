"""Starts the measured programs as separate processes."""

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
from sam3_server import Ports, TritonServer, installation

from benchmarks.results import BenchmarkError

# The full-size network takes a minute to build and load.
_START_TIMEOUT_S = 300
# Keys and values of the response cache together; equal to the default of the project's own cache.
_RESPONSE_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Service:
    """An HTTP service that implements `/predict/mask`."""

    url: str
    pid: int | None = None  # None if it runs on another machine


@contextmanager
def repository_copy(source: Path, **parameters: dict[str, str]) -> Iterator[Path]:
    """A copy of a repository with other values for some parameters, given by model."""
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
    """A Triton that serves such a copy, on free ports; `flags` are more flags for `tritonserver`."""
    with (
        repository_copy(source, **parameters) as repository,
        (repository.parent / "triton.log").open("w") as log,
        TritonServer(repository, log, ports=Ports(*free_ports(3)), flags=flags) as server,
    ):
        yield server


@contextmanager
def serving_with_response_cache(repository: Path) -> Iterator[TritonServer]:
    """A server without the embedding cache that keeps the answers of `sam3_encode` in Triton's response cache.

    The response cache's key is the image file, so a request with only an id misses. Enabling it on `sam3_image_encoder`
    works too, but then each click decodes its image. With `sam3_preprocess` enabled as well, Triton 2.51 sends the
    encoder a request without inputs.
    """
    with repository_copy(repository, sam3_embedding_cache={"cache_bytes": "0"}) as copy, installation.find() as found:
        config = copy / "sam3_encode" / "config.pbtxt"
        config.write_text(config.read_text() + "response_cache { enable: true }\n")
        caches = found.binary.resolve().parent.parent / "caches"
        flags = (f"--cache-config=local,size={_RESPONSE_CACHE_BYTES}", f"--cache-directory={caches}")
        with serving(copy, flags) as server:
            yield server


@contextmanager
def gateway(triton_url: str) -> Iterator[Service]:
    """A gateway in front of a Triton."""
    (port,) = free_ports(1)
    with _running(["sam3_gateway.cli", "--port", str(port), "--triton", triton_url], port) as service:
        yield service


@contextmanager
def fastapi_baseline(checkpoint: Path, config: Path | None, *flags: str) -> Iterator[Service]:
    """The service of `fastapi_baseline.py`."""
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
                    lines = log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
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
    """Free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
