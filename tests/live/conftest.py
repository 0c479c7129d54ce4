"""Raw clients of the server, and its own counts."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from repository import OUTPUTS, infer, settled


@pytest.fixture(scope="session", params=["grpc", "http"])
def raw(request: pytest.FixtureRequest, server) -> Iterator[Callable[..., dict[str, Any]]]:
    """Sends inputs to `sam3` in Triton's own terms, over gRPC and over HTTP."""
    module = {"grpc": tritonclient.grpc, "http": tritonclient.http}[request.param]
    client = module.InferenceServerClient(server.grpc_url if request.param == "grpc" else server.http_url)

    def send(inputs: dict[str, Any], outputs: tuple[str, ...] = OUTPUTS) -> dict[str, Any]:
        return infer(client, module, inputs, outputs)

    yield send
    client.close()


@pytest.fixture(scope="session")
def inferences(server) -> Callable[[str], int]:
    """How many inferences a model has answered since the start, by Triton's statistics."""
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
    return lambda model: settled(lambda: client.get_inference_statistics(model).model_stats[0].inference_count)


@pytest.fixture(scope="session")
def metric(server) -> Callable[[str], float]:
    """The value of one of the cache's metrics, from Triton's metrics port."""

    def read(name: str) -> float:
        return settled(lambda: read_now(name))

    def read_now(name: str) -> float:
        with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        (line,) = [line for line in lines if line.startswith(f"sam3_embedding_cache_{name}{{")]
        return float(line.split()[-1])

    return read
