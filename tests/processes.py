"""Commands of the project in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from repository import free_ports


def serve_command(repository: Path, ports: list[int], *arguments: str) -> list[str]:
    """A `sam3-serve` on three ports: HTTP, gRPC, metrics."""
    names = ("--http-port", "--grpc-port", "--metrics-port")
    flags = [part for name, port in zip(names, ports, strict=True) for part in (name, str(port))]
    return [sys.executable, "-m", "sam3_server.cli", "--repository", str(repository), *flags, *arguments]


@contextmanager
def run_gateway(triton_url: str, *flags: str, log: Path | None = None, **environment: str) -> Iterator[str]:
    """A `sam3 gateway`; the context's value is its address.

    Args:
        log: a file for what it prints, the access log included.
        environment: settings such as SAM3_GATEWAY_API_KEY.
    """
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sam3_triton.cli", "gateway", "--port", str(port), "--triton", triton_url, *flags]
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{url}/health", timeout=10)
                break
            except requests.ConnectionError:
                assert process.poll() is None, "the gateway ended"
                assert time.monotonic() < deadline, "the gateway did not start"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()
