from __future__ import annotations

from dataclasses import fields, replace

import pytest
from embedding_cache import CacheStats
from published_counts import MetricSpec, PublishedCounts

GAUGES = {"entries", "bytes", "capacity_bytes", "inflight"}


class Metric:
    """Adds up, as Triton's metrics do."""

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self.value = 0.0
        self.calls = 0
        self.fails = False

    def increment(self, value: float) -> None:
        if self.fails:
            raise RuntimeError("no metrics today")
        assert self.spec.is_gauge or value > 0, "a counter cannot fall"
        self.value += value
        self.calls += 1


@pytest.fixture
def metrics() -> dict[str, Metric]:
    return {}


@pytest.fixture
def counts(metrics: dict[str, Metric]) -> PublishedCounts:
    def make(spec: MetricSpec) -> Metric:
        metrics[spec.name] = Metric(spec)
        return metrics[spec.name]

    return PublishedCounts("sam3_embedding_cache_", CacheStats, make)


@pytest.mark.usefixtures("counts")
def test_each_count_is_a_metric_named_as_prometheus_wants_it(metrics: dict[str, Metric]) -> None:
    expected = {field.name + ("" if field.name in GAUGES else "_total") for field in fields(CacheStats)}
    assert {name.removeprefix("sam3_embedding_cache_") for name in metrics} == expected
    assert all(metric.spec.is_gauge == (not name.endswith("_total")) for name, metric in metrics.items())
    assert metrics["sam3_embedding_cache_hits_total"].spec.help == "Requests answered from the cache"


def test_metrics_follow_the_counts_up_and_gauges_down(counts: PublishedCounts, metrics: dict[str, Metric]) -> None:
    for hits, seconds, entries in ((1, 0.5, 3), (4, 0.75, 1), (4, 0.75, 0)):
        counts.publish(CacheStats(hits=hits, encode_seconds=seconds, entries=entries, capacity_bytes=100))
        assert metrics["sam3_embedding_cache_hits_total"].value == hits
        assert metrics["sam3_embedding_cache_encode_seconds_total"].value == seconds
        assert metrics["sam3_embedding_cache_entries"].value == entries
        assert metrics["sam3_embedding_cache_capacity_bytes"].value == 100


def test_unchanged_counts_are_left_alone(counts: PublishedCounts, metrics: dict[str, Metric]) -> None:
    stats = CacheStats(hits=2, entries=1)
    counts.publish(stats)
    counts.publish(replace(stats, entries=2))
    calls = {name.removeprefix("sam3_embedding_cache_"): metric.calls for name, metric in metrics.items()}
    assert {name: count for name, count in calls.items() if count} == {"hits_total": 1, "entries": 2}


def test_nothing_is_counted_twice_after_a_failure(counts: PublishedCounts, metrics: dict[str, Metric]) -> None:
    metrics["sam3_embedding_cache_misses_total"].fails = True  # published after the hits
    with pytest.raises(RuntimeError):
        counts.publish(CacheStats(hits=2, misses=1))
    metrics["sam3_embedding_cache_misses_total"].fails = False
    counts.publish(CacheStats(hits=3, misses=1))
    assert metrics["sam3_embedding_cache_hits_total"].value == 3
    assert metrics["sam3_embedding_cache_misses_total"].value == 1
