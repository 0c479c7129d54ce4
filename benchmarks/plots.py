"""Plots of a run: latency over concurrency, and the waterfall of a warm click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

from benchmarks.results import LIMIT, Results, Row, Scenario, Tool

_COLOURS = {
    "client": "#8d99ae",
    "network": "#bcc4d1",
    "queue": "#e9c46a",
    "copies": "#e76f51",
    "compute": "#2a6f97",
    "ensemble": "#f4a261",
}
_DPI = 110


def draw(results: Results, folder: Path) -> list[str]:
    """Writes the plots for which there are results into a folder, and returns their names."""
    drawn = []
    if any((row.concurrency or 0) > 1 for row in results.rows):
        drawn.append(_latency(results, folder / "latency.png"))
    if results.waterfalls:
        drawn.append(_waterfall(results, folder / "waterfall.png"))
    return drawn


def _latency(results: Results, path: Path) -> str:
    figure, axes = pyplot.subplots(figsize=(10, 5))
    series: dict[str, list[Row]] = {}
    for row in results.rows:
        if row.scenario in (Scenario.WARM_BY_ID, Scenario.WARM_BY_BYTES) and row.concurrency and row.system != LIMIT:
            kind = "" if row.tool == Tool.UPLOADS else f", {row.scenario}, {row.way}, {row.tool}"
            series.setdefault(f"{row.system}{kind}", []).append(row)
    for name, rows in series.items():
        rows.sort(key=lambda row: row.concurrency or 0)
        places = [row.concurrency or 0 for row in rows]
        (line,) = axes.plot(places, [row.latency.median_ms for row in rows], marker="o", label=name)
        axes.fill_between(
            places,
            [row.latency.median_ms for row in rows],
            [row.latency.p90_ms for row in rows],
            color=line.get_color(),
            alpha=0.12,
        )
    if limit := results.find(LIMIT, Scenario.WARM_BY_ID, Tool.PLAIN):
        axes.axhline(limit.latency.median_ms, color="black", linestyle=":", label="limit, one caller")
    axes.set(xscale="log", yscale="log", xlabel="callers at one time", ylabel="ms: median, shaded up to p90")
    ticks = sorted({row.concurrency for rows in series.values() for row in rows if row.concurrency})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"Warm clicks: {results.title}")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    axes.grid(alpha=0.3)
    return _save(figure, path)


def _waterfall(results: Results, path: Path) -> str:
    bars = [
        (f"{system}: {segment.step}" if system != segment.step else system, segment.kind, start, segment.milliseconds)
        for system, segments in results.waterfalls.items()
        for start, segment in zip(_starts([one.milliseconds for one in segments]), segments, strict=True)
    ]
    names = list(dict.fromkeys(name for name, *_ in bars))
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.38 * len(names)))
    for name, kind, start, milliseconds in bars:
        axes.barh(names.index(name), milliseconds, left=start, color=_COLOURS[kind], height=0.7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms since the click")
    axes.set_title(f"A warm click by id over gRPC: {results.title}", fontsize=10)
    kinds = dict.fromkeys(kind for _, kind, *_ in bars)
    axes.legend([pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[kind]) for kind in kinds], kinds, fontsize=7)
    axes.grid(axis="x", alpha=0.3)
    return _save(figure, path)


def draw_sizing(figures: dict[str, Any], path: Path) -> str:
    """Draws the figures of `sizing.simulate_all`, and returns the plot's name."""
    figure, ((hits, slow), (moves, lost)) = pyplot.subplots(2, 2, figsize=(11, 8))
    names = list(dict.fromkeys(one["policy"] for one in figures["replicas"]))
    for name in names:
        rows = [one for one in figures["replicas"] if one["policy"] == name]
        places = [one["replicas"] for one in rows]
        hits.plot(places, [one["hit_ratio"] for one in rows], marker="o", markersize=4, label=name)
        slow.plot(places, [one["p99_ms"] for one in rows], marker="o", markersize=4, label=name)
        grown = [one for one in figures["scale_up"] if one["policy"] == name]
        moves.plot([one["replicas"] for one in grown], [one["moved"] for one in grown], label=name)
        (loss,) = [one for one in figures["loss"] if one["policy"] == name]
        ratios = loss["hit_ratio_over_time"]
        seconds = [loss["seconds"] * (place + 0.5) / len(ratios) for place in range(len(ratios))]
        lost.plot(seconds, ratios, label=name)
    limits = [one for one in figures["scale_up"] if one["policy"] == names[0]]
    moves.plot([one["replicas"] for one in limits], [one["limit"] for one in limits], "k:", label="limit: 1/(k+1)")
    hits.set(title="Hit ratio", xlabel="replicas", ylim=(0.5, 1.01))
    slow.set(title="Latency, 99th percentile", xlabel="replicas", ylabel="ms", yscale="log")
    slow.yaxis.set_major_formatter("{x:g}")
    moves.set(title="Images that move from k to k + 1 replicas", xlabel="k", ylabel="share of images", ylim=(0, 1))
    lost.set(title="Hit ratio: one of four replicas is lost, then back", xlabel="seconds", ylim=(0.3, 1.01))
    for axes in (hits, slow, moves, lost):
        axes.grid(alpha=0.3)
    moves.legend(fontsize=8)
    figure.suptitle("Simulated: Zipf clicks on 10,000 images, caches of 1,000, demonstration model's service times")
    return _save(figure, path)


def _starts(lengths: list[float]) -> list[float]:
    return [sum(lengths[:number]) for number in range(len(lengths))]


def _save(figure: pyplot.Figure, path: Path) -> str:
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return path.name
