"""The simulated fleet agrees with what is known about caches and queues."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import PROJECT
from benchmarks.fleet_simulation import Fleet, Service, Traffic, che_hit_ratio
from benchmarks.routing import Consistent, RoundRobin
from benchmarks.sizing import _scale_up, measured

SERVICE = Service(click=0.01, encode=0.1, overhead=0.002)


@pytest.mark.parametrize("capacity", [50, 200])
def test_the_hit_ratio_is_that_of_ches_approximation(capacity: int) -> None:
    traffic = Traffic(images=1000, exponent=0.9, rate=1, clicks=30_000)
    outcome = Fleet(RoundRobin(), 1, capacity, SERVICE).run(traffic, seed=1)
    assert outcome.hits[10_000:].mean() == pytest.approx(che_hit_ratio(traffic.shares(), capacity), abs=0.015)


def test_the_wait_is_that_of_a_queue_with_random_arrivals_and_equal_service() -> None:
    traffic = Traffic(images=10, exponent=1, rate=50, clicks=30_000)
    outcome = Fleet(RoundRobin(), 1, 10, SERVICE).run(traffic, seed=1)
    load = traffic.rate * SERVICE.click
    wait = outcome.latencies.mean() - SERVICE.click - SERVICE.overhead
    assert wait == pytest.approx(load * SERVICE.click / (2 * (1 - load)), rel=0.1)


def test_no_click_is_lost_with_a_replica() -> None:
    traffic = Traffic(images=50, exponent=1, rate=100, clicks=3000)
    outcome = Fleet(Consistent(100), 3, 30, SERVICE).run(traffic, seed=1, down=(1, 10.0, 20.0))
    assert np.isfinite(outcome.latencies).all()
    assert outcome.latencies.min() > 0.99 * (SERVICE.click + SERVICE.overhead)
    away = (outcome.arrivals > 10) & (outcome.arrivals < 20)
    assert not (outcome.replicas[away] == 1).any()
    assert (outcome.replicas[outcome.arrivals > 20] == 1).any()


def test_few_more_images_move_than_must() -> None:
    for replicas in (1, 3, 7, 15):
        figures = _scale_up("consistent, weight 100", replicas)
        assert figures["moved"] == pytest.approx(figures["limit"], rel=0.1)


def test_service_times_come_from_a_run() -> None:
    service = measured(PROJECT / "benchmarks" / "results" / "short.json")
    assert 0.001 < service.click < service.encode < 0.1
