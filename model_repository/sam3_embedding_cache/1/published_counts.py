"""Publishes a model's counts as increments of metrics. Independent of Triton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol


def counter(help_text: str) -> Any:
    """A dataclass field for a number that only rises."""
    return field(default=0, metadata={"help": help_text, "gauge": False})


def gauge(help_text: str) -> Any:
    """A dataclass field for a number that may fall."""
    return field(default=0, metadata={"help": help_text, "gauge": True})


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
    """A metric for each field of a dataclass of counts. Not thread-safe."""

    def __init__(self, prefix: str, counts: type, make: Callable[[MetricSpec], Metric]) -> None:
        """
        Args:
            prefix: what the metrics' names begin with.
            counts: a dataclass whose fields are `counter` or `gauge`.
            make: makes a metric, which is initially 0.
        """
        self._metrics: dict[str, Metric] = {}
        for one in fields(counts):
            is_gauge = one.metadata["gauge"]
            name = prefix + one.name + ("" if is_gauge else "_total")
            self._metrics[one.name] = make(MetricSpec(name, one.metadata["help"], is_gauge))
        self._published = counts()

    def publish(self, counts: Any) -> None:
        """Updates each metric whose count has changed.

        Args:
            counts: an instance of the dataclass that nobody else changes.
        """
        for name, metric in self._metrics.items():
            change = getattr(counts, name) - getattr(self._published, name)
            if change:
                metric.increment(change)
                setattr(self._published, name, getattr(counts, name))
