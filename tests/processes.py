"""Runs the project's commands, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from repository import PROJECT, free_ports
from sam3_server import installation
from sam3_server.runtimes import is_native
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException


def serve_command(repository: Path, ports: list[int], *arguments: str) -> list[str]:
    """The command line of a `sam3-serve`; `ports` are those of HTTP, gRPC, metrics and, if a test uses it, health."""
    names = ("--http-port", "--grpc-port", "--metrics-port", "--health-port")
    ports = ports if len(ports) == 4 else [*ports, *free_ports(1)]
    flags = [part for name, port in zip(names, ports, strict=True) for part in (name, str(port))]
    return [sys.executable, "-m", "sam3_server.cli", "--repository", str(repository), *flags, *arguments]


def models_with_processes() -> list[str]:
    """The models of the repository without concept prompts that run in processes of their own: those in Python, and the
    exported ones where a stand-in serves them."""
    configs = {
        path.parent.name: path.read_text()
        for path in (PROJECT / "model_repository").glob("*/config.pbtxt")
        if not path.parent.is_symlink()  # of concept prompts, made by sam3-export
    }
    backends = ["python", *(name for name in ("onnxruntime", "pytorch") if not is_native(name))]
    return sorted(
        model for model, text in configs.items() if any(f'backend: "{backend}"' in text for backend in backends)
    )


@contextmanager
def run_triton(repository: Path, log: Path, *flags: str) -> Iterator[tuple[str, InferenceServerClient]]:
    """Runs a `tritonserver` that loads models only on request; yields its gRPC address and a client."""
    ports = free_ports(3)
    with installation.find() as found, log.open("w") as output:
        command = [
            str(found.binary),
            f"--model-repository={repository}",
            *([f"--backend-directory={found.backend_directory}"] if found.backend_directory else []),
            "--model-control-mode=explicit",
            *flags,
            *(f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)),
        ]
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **found.environment})
        try:
            control = InferenceServerClient(f"127.0.0.1:{ports[1]}")
            deadline = time.monotonic() + 120
            while not _is_ready(control):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"127.0.0.1:{ports[1]}", control
        finally:
            process.terminate()
            process.wait()


def _is_ready(control: InferenceServerClient) -> bool:
    try:
        return control.is_server_ready()
    except InferenceServerException:
        return False


@contextmanager
def run_gateway(triton_url: str, *flags: str, log: Path | None = None, **environment: str) -> Iterator[str]:
    """Runs a `sam3-gateway`; yields its URL.

    Args:
        log: file for its output, which includes the access log.
        environment: settings such as SAM3_GATEWAY_API_KEY.
    """
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sam3_gateway.cli", "--port", str(port), "--triton", triton_url, *flags]
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
