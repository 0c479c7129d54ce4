"""Table, promises and plots of a made-up run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import PROJECT, plots, report
from benchmarks.__main__ import main
from benchmarks.report import checks
from benchmarks.results import LAST_IMAGE_BASELINE, PLAIN_BASELINE, Latency, Results, Row, Scenario, Segment, Tool


def row(system: str, scenario: str, tool: str, median_ms: float, throughput: float = 10, concurrency: int = 1) -> Row:
    way = {Tool.PLAIN: "in process", Tool.UPLOADS: "HTTP"}.get(tool, "gRPC")
    latency = Latency(median_ms, 2 * median_ms, 3 * median_ms, 100, throughput)
    return Row(system, scenario, way, tool, latency, 100, 8, 8, 1.0, 512.0, concurrency)


@pytest.fixture
def results() -> Results:
    rows = [
        row("limit", Scenario.WARM_BY_ID, Tool.PLAIN, 10),
        row("sam3", Scenario.WARM_BY_ID, Tool.CLIENT, 12),
        row("sam3", Scenario.WARM_BY_ID, Tool.PERF, 11.5),
        row("sam3", Scenario.WARM_BY_BYTES, Tool.PERF, 60, 40, concurrency=8),
        row("gateway", Scenario.WARM_BY_BYTES, Tool.UPLOADS, 14),
        row(PLAIN_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS, 6000),
        row(LAST_IMAGE_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS, 13),
        row(LAST_IMAGE_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS, 600, 12, concurrency=8),
        row("sam3", Scenario.WARM_BY_ID, Tool.PREPARED, 12),
        row("sam3", Scenario.BOXES_TOGETHER, Tool.CLIENT, 60),
        row("sam3", Scenario.BOXES_APART, Tool.CLIENT, 200),
    ]
    return Results("a made-up run", True, {"cores": "2"}, {}, rows, {}, [])


def held(results: Results) -> dict[str, bool]:
    return {check.claim: check.holds for check in checks(results)}


def test_what_is_promised_is_compared(results: Results):
    found = held(results)

    assert len(found) == 8
    assert [claim for claim, holds in found.items() if not holds] == [
        "the second click through the gateway, against FastAPI that keeps the last image, one caller"
    ]


def change(results: Results, number: int, **latency: float) -> Results:
    rows = list(results.rows)
    rows[number] = replace(rows[number], latency=replace(rows[number].latency, **latency))
    return replace(results, rows=rows)


@pytest.mark.parametrize(
    ("number", "latency", "claim"),
    [
        (1, {"median_ms": 12.6}, "a warm click by id over gRPC, against the limit"),
        (5, {"median_ms": 1190}, "the second click, against a FastAPI service that encodes each time"),
        (6, {"median_ms": 11.9}, "the second click by id over gRPC"),
        (3, {"throughput": 35.9}, "throughput over gRPC with 8 callers"),
        (2, {"median_ms": 10.7}, "perf_analyzer's median"),
        (2, {"median_ms": 13.3}, "perf_analyzer's median"),
        (9, {"median_ms": 67}, "20 boxes on an image in one request"),
    ],
)
def test_a_broken_promise_is_reported(results: Results, number: int, latency: dict, claim: str):
    found = held(change(results, number, **latency))

    assert [holds for text, holds in found.items() if text.startswith(claim)] == [False]


def test_one_encode_too_many_is_reported(results: Results):
    results.rows[3] = replace(results.rows[3], encoder_runs=9)

    assert held(results)["encoder runs per distinct image"] is False
    assert "1.12 in warm by bytes, gRPC" in report.markdown(results)


def test_the_demonstration_network_may_take_six_milliseconds_more(results: Results):
    small = replace(results, full_size=False)

    assert held(change(change(small, 0, median_ms=3), 1, median_ms=8.9))[
        "a warm click by id over gRPC, against the limit"
    ]
    assert not held(change(change(small, 0, median_ms=3), 1, median_ms=9.1))[
        "a warm click by id over gRPC, against the limit"
    ]


def test_ratios_come_before_times(results: Results):
    page = report.markdown(results, ["latency.png"])

    assert page.index("x 1.20 (12.0 ms against 10.0 ms)") < page.index("## Figures")
    assert (
        "| sam3 | warm by id | gRPC | Sam3Client | 1 | 1.20 | 500.0 | 12.0 | 24.0 | 36.0 | 10.0 | 1 | 100% | 512 |"
        in page
    )
    assert "![latency.png](latency.png)" in page
    assert "| cores | 2 |" in page


@pytest.mark.parametrize(("name", "kept"), [("short", 7), ("full-size", 6)])
def test_results_that_were_kept_are_reported_again(name: str, kept: int, tmp_path: Path):
    assert main(["report", str(PROJECT / "benchmarks" / "results" / f"{name}.json"), "--output", str(tmp_path)]) == 0

    page = (tmp_path / "report.md").read_text()
    assert (page.count("| yes |"), page.count("| **no** |")) == (kept, 0)
    assert "| sam3 | warm by id | gRPC | Sam3Client | 1 | " in page
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "latency.png", "waterfall.png"}


def test_plots_are_drawn_of_what_there_is(results: Results, tmp_path: Path):
    assert plots.draw(replace(results, rows=results.rows[:3]), tmp_path) == []

    results.waterfalls = {
        "sam3": [Segment("caller", "client", 1.0), Segment("sam3_mask_decoder", "queue", 0.5)],
        "limit": [Segment("decoder", "compute", 3.0)],
    }
    assert plots.draw(results, tmp_path) == ["latency.png", "waterfall.png"]
    for name in ("latency.png", "waterfall.png"):
        assert len(Image.open(tmp_path / name).convert("RGB").getcolors(1 << 20)) > 20
