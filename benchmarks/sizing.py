"""How many replicas: hit ratio, latency, and what moves when a replica comes or goes. Simulated; see docs/sizing.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet_simulation import Fleet, Outcome, Service, Traffic, che_hit_ratio
from benchmarks.results import SAM3, Results, Scenario, Tool
from benchmarks.routing import Consistent, Modulo, Policy, RoundRobin

CLICKS = 20_000  # for each replica
REPLICAS = (1, 2, 3, 4, 6, 8, 12, 16)
POLICIES: dict[str, Callable[[], Policy]] = {
    "round robin": RoundRobin,
    "modulo": Modulo,
    "consistent, weight 1": lambda: Consistent(1),
    "consistent, weight 100": lambda: Consistent(100),
    "bounded, 150 %": lambda: Consistent(100, balance_factor=150),
}
# 1,000 images of the full-size SAM 3 take 10.6 GB of a replica's cache.
_CAPACITY, _IMAGES, _EXPONENT = 1000, 10_000, 1.0
_LOAD = 0.25  # of each decoder, if the clicks were spread evenly
_SEED = 17
_HOT, _HOT_LOAD = 0.3, 0.5


def measured(results: Path) -> Service:
    """The service times of the demonstration model, from the results of `python -m benchmarks short`."""
    rows = Results.load(results).rows

    def row(scenario: str, concurrency: int) -> Any:
        wanted = (SAM3, scenario, "gRPC", Tool.PERF, concurrency)
        return next(one for one in rows if (one.system, one.scenario, one.way, one.tool, one.concurrency) == wanted)

    click = 1 / row(Scenario.WARM_BY_ID, 8).latency.throughput
    alone = row(Scenario.WARM_BY_ID, 1).latency.median_ms / 1e3
    return Service(click, 1 / row(Scenario.COLD, 4).latency.throughput, alone - click)


def simulate_all(service: Service, clicks: int) -> dict[str, Any]:
    """Returns all figures. `clicks` is the number for each replica, of which the second half is counted."""
    return {
        "assumptions": {
            "service_s": asdict(service),
            "images": _IMAGES,
            "zipf_exponent": _EXPONENT,
            "cache_images": _CAPACITY,
            "decoder_load": _LOAD,
            "clicks_per_replica": clicks,
            "seed": _SEED,
        },
        "validation": _validate(service, clicks),
        "replicas": [_fleet(name, count, service, clicks) for name in POLICIES for count in REPLICAS],
        "scale_up": [_scale_up(name, count) for name in POLICIES for count in range(1, 16)],
        "loss": [_loss(name, service, clicks) for name in POLICIES],
        "hot": [_fleet(name, 4, service, clicks, _HOT, _HOT_LOAD) for name in POLICIES],
    }


def _traffic(service: Service, replicas: int, clicks: int, hot: float = 0.0, load: float = _LOAD) -> Traffic:
    return Traffic(_IMAGES, _EXPONENT, replicas * load / service.click, replicas * clicks, hot)


def _fleet(
    name: str, replicas: int, service: Service, clicks: int, hot: float = 0.0, load: float = _LOAD
) -> dict[str, Any]:
    outcome = Fleet(POLICIES[name](), replicas, _CAPACITY, service).run(
        _traffic(service, replicas, clicks, hot, load), _SEED
    )
    half = slice(len(outcome.hits) // 2, None)
    clicks_of = np.bincount(outcome.replicas[half], minlength=replicas)
    return {"policy": name, "replicas": replicas, **_figures(outcome, half), "busiest": _busiest(clicks_of)}


def _figures(outcome: Outcome, part: slice | np.ndarray) -> dict[str, float]:
    median, p99 = 1e3 * np.percentile(outcome.latencies[part], [50, 99])
    return {
        "hit_ratio": round(float(outcome.hits[part].mean()), 4),
        "p50_ms": round(median, 1),
        "p99_ms": round(p99, 1),
    }


def _busiest(clicks_of: np.ndarray) -> float:
    """How many times its fair share of the clicks the busiest replica gets."""
    return round(float(clicks_of.max() / clicks_of.mean()), 2)


def _scale_up(name: str, replicas: int) -> dict[str, Any]:
    """The share of images that move to another replica once there is one more, of which 1/(k+1) must move.

    And how many times its fair share of the images the largest replica has, with the smaller number of replicas.
    """
    policy, idle = POLICIES[name](), [0] * (replicas + 1)
    keys = np.random.default_rng(_SEED).integers(0, 2**32, _IMAGES).tolist()
    before = np.array([policy.choose(key, range(replicas), idle) for key in keys])
    after = np.array([policy.choose(key, range(replicas + 1), idle) for key in keys])
    moved, limit = float((before != after).mean()), 1 / (replicas + 1)
    largest = _busiest(np.bincount(before, minlength=replicas))
    moves = {"moved": round(moved, 4), "limit": round(limit, 4), "largest": largest}
    return {"policy": name, "replicas": replicas, **moves}


def _loss(name: str, service: Service, clicks: int) -> dict[str, Any]:
    """Four replicas, of which one is lost after a third of the time and back, with an empty cache, after two thirds."""
    traffic = _traffic(service, 4, clicks)
    third = traffic.clicks / traffic.rate / 3
    outcome = Fleet(POLICIES[name](), 4, _CAPACITY, service).run(traffic, _SEED, (1, third, 2 * third))
    edges = np.linspace(0, 3 * third, 61)
    place = np.digitize(outcome.arrivals, edges) - 1
    ratio = [round(float(outcome.hits[place == one].mean()), 4) for one in range(60)]
    phases = {
        phase: _figures(outcome, (outcome.arrivals >= start * third) & (outcome.arrivals < (start + 1) * third))
        for start, phase in enumerate(("before", "without it", "back"))
    }
    return {"policy": name, "seconds": round(3 * third, 1), "hit_ratio_over_time": ratio, **phases}


def _validate(service: Service, clicks: int) -> dict[str, Any]:
    """One replica against what is known: Che's approximation, and the mean wait of a queue M/D/1."""
    caches = []
    for capacity in (250, 1000, 4000):
        slow = Traffic(_IMAGES, _EXPONENT, 0.1 / service.encode, 4 * clicks)
        hits = Fleet(RoundRobin(), 1, capacity, service).run(slow, _SEED).hits[2 * clicks :]
        known = che_hit_ratio(slow.shares(), capacity)
        caches.append({"cache_images": capacity, "simulated": round(float(hits.mean()), 4), "che": round(known, 4)})
    queues = []
    for load in (0.3, 0.6, 0.8):
        warm = Traffic(100, _EXPONENT, load / service.click, 4 * clicks)
        outcome = Fleet(RoundRobin(), 1, 100, service).run(warm, _SEED)
        wait = outcome.latencies.mean() - service.overhead - service.click
        known = load * service.click / (2 * (1 - load))
        queues.append({"load": load, "simulated_ms": round(1e3 * wait, 3), "m_d_1_ms": round(1e3 * known, 3)})
    return {"lru": caches, "queue": queues}


def markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Sizing, simulated",
        "",
        "| replicas | " + " | ".join(POLICIES) + " |",
        "|---" * (len(POLICIES) + 1) + "|",
    ]
    for count in REPLICAS:
        rows = {one["policy"]: one for one in figures["replicas"] if one["replicas"] == count}
        cells = [f"{rows[name]['hit_ratio']:.3f}, {rows[name]['p99_ms']:.0f} ms" for name in POLICIES]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    lines += ["", "Hit ratio and 99th percentile of latency."]
    for key, title in (("hot", "A hot image, four replicas"), ("loss", "Loss and return of one of four replicas")):
        lines += ["", f"## {title}", ""]
        for one in figures[key]:
            shown = {name: value for name, value in one.items() if name not in ("policy", "hit_ratio_over_time")}
            lines.append(f"- {one['policy']}: {shown}")
    return "\n".join([*lines, ""])
