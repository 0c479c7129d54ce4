"""Raw clients of the server, and its statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from observer import Observer
from repository import OUTPUTS, infer


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
    """The number of inferences of a model since the start, from Triton's statistics."""
    return Observer(server).inferences


@pytest.fixture(scope="session")
def metric(server) -> Callable[[str], float]:
    """The value of one of the cache's metrics, from Triton's metrics port."""
    return Observer(server).metric
