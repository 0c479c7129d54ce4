"""Reads a server's own statistics."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tritonclient.grpc import InferenceServerClient

if TYPE_CHECKING:
    from sam3_server import TritonServer

Value = TypeVar("Value")


def settled(read: Callable[[], Value], still_s: float = 0.1) -> Value:
    """Reads a count until it stays the same for `still_s`: Triton counts a request only after answering it."""
    value = read()
    while True:
        time.sleep(still_s)
        before, value = value, read()
        if value == before:
            return value


class Observer:
    """Reads Triton's statistics and the cache's metrics of one server, once they have settled."""

    def __init__(self, server: TritonServer) -> None:
        self._metrics_url = server.metrics_url
        self._client = InferenceServerClient(server.grpc_url)

    def counts(self, model: str) -> tuple[int, int]:
        """Inferences and executions of a model since the server's start."""
        return settled(lambda: self._counts(model))

    def inferences(self, model: str) -> int:
        """Inferences of a model since the server's start."""
        return self.counts(model)[0]

    def metric(self, name: str) -> float:
        """One of the cache's metrics."""
        return settled(lambda: self.metrics()[name], still_s=0.3)  # the cache publishes ten times a second

    def metrics(self) -> dict[str, float]:
        """The cache's metrics as they are now, by name."""
        prefix = "sam3_embedding_cache_"
        with urllib.request.urlopen(self._metrics_url, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith(prefix)]
        return {line.split("{")[0].removeprefix(prefix): float(line.split()[-1]) for line in lines}

    def _counts(self, model: str) -> tuple[int, int]:
        stats = self._client.get_inference_statistics(model).model_stats[0]
        return stats.inference_count, stats.execution_count
