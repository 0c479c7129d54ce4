"""Publishes the cache's counts as increments of metrics. Independent of Triton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from embedding_cache import CacheStats

_PREFIX = "sam3_embedding_cache_"


class Metric(Protocol):
    """A number for monitoring, initially 0."""

    def increment(self, value: float) -> None:
        """Adds a value, which may be negative for a gauge."""


@dataclass(frozen=True)
class MetricSpec:
    """The name, description and kind of a metric."""

    name: str
    help: str
    is_gauge: bool
    """A gauge may fall; a counter only rises."""


class PublishedCounts:
    """A metric for each count of `CacheStats`. Not thread-safe."""

    def __init__(self, make: Callable[[MetricSpec], Metric]) -> None:
        self._metrics: dict[str, Metric] = {}
        for field in fields(CacheStats):
            gauge = field.metadata["gauge"]
            name = _PREFIX + field.name + ("" if gauge else "_total")
            self._metrics[field.name] = make(MetricSpec(name, field.metadata["help"], gauge))
        self._published = CacheStats()

    def publish(self, stats: CacheStats) -> None:
        """Updates each metric whose count has changed."""
        for name, metric in self._metrics.items():
            change = getattr(stats, name) - getattr(self._published, name)
            if change:
                metric.increment(change)
                setattr(self._published, name, getattr(stats, name))
