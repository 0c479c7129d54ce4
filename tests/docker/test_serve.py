"""docker/serve.sh as the container runs it, with the real tritonserver."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc
from repository import PROJECT, free_ports
from sam3_triton import Sam3Client
from tritonclient.utils import InferenceServerException

BIN = Path(sys.executable).parent
CLOSED = {
    "v2/repository/index": "POST",
    "v2/systemsharedmemory/status": "GET",
    "v2/trace/setting": "GET",
    "v2/logging": "GET",
}
OPEN = ("v2", "v2/health/ready", "v2/models/sam3/config", "v2/models/sam3/stats")
GRPC_CLOSED = (
    "get_model_repository_index",
    "get_system_shared_memory_status",
    "get_trace_settings",
    "get_log_settings",
)
KEY = "a key for tests"


@pytest.fixture(scope="module", params=[None, KEY], ids=["nobody's key", "a known key"])
def container(request: pytest.FixtureRequest, exported: Path) -> Iterator[tuple[str, str, str | None]]:
    """Runs serve.sh; yields its HTTP and gRPC addresses, and the administrator's key."""
    http, grpc, metrics = free_ports(3)
    command = ["sh", str(PROJECT / "docker" / "serve.sh"), "--repository", str(exported), "--address", "127.0.0.1"]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    if request.param:
        environment["SAM3_ADMIN_KEY"] = request.param
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Serving SAM 3")
        yield f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", request.param
    finally:
        process.terminate()  # reaches sam3-serve itself: exec replaced the shell
        assert process.wait(60) == 0


def status(url: str, method: str, key: str | None = None) -> int:
    headers = {"sam3-admin": key} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_clicks_are_answered(container: tuple[str, str, str | None]) -> None:
    with Sam3Client(container[1]) as client:
        client.probe()


def test_what_no_click_needs_is_closed(container: tuple[str, str, str | None]) -> None:
    http, grpc, _ = container
    assert {path: status(f"{http}/{path}", method) for path, method in CLOSED.items()} == dict.fromkeys(CLOSED, 403)
    assert {path: status(f"{http}/{path}", "GET") for path in OPEN} == dict.fromkeys(OPEN, 200)
    client = tritonclient.grpc.InferenceServerClient(grpc)
    for name in GRPC_CLOSED:
        ask: Callable = getattr(client, name)
        with pytest.raises(InferenceServerException, match="restricted"):
            ask()
    client.close()


def test_an_administrator_has_the_key(container: tuple[str, str, str | None]) -> None:
    http, grpc, key = container
    expected = 200 if key else 403
    for path, method in CLOSED.items():
        assert status(f"{http}/{path}", method, key or KEY) == expected
    assert status(f"{http}/v2/logging", "GET", "another key") == 403
    if key:
        client = tritonclient.grpc.InferenceServerClient(grpc)
        assert client.get_log_settings(headers={"triton-grpc-protocol-sam3-admin": key})
        client.close()


def test_models_are_neither_loaded_nor_unloaded(container: tuple[str, str, str | None]) -> None:
    http, _, key = container
    assert status(f"{http}/v2/repository/models/sam3/unload", "POST", key) == (503 if key else 403)
