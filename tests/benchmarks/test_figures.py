"""Percentiles, rounds, and results files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results import BenchmarkError, Latency, Results, Row, Segment

ROW = Row("sam3", "warm by id", "gRPC", "Sam3Client", Latency(10, 12, 20, 100, 90), 101, 8, 8, 1.0, 600.0)


def test_percentiles_are_milliseconds():
    latency = Latency.of([number / 1000 for number in range(1, 102)])

    assert (latency.median_ms, latency.p90_ms, latency.p99_ms) == pytest.approx((51, 91, 100))
    assert latency.count == 101


def test_throughput_of_callers_that_do_not_wait_for_one_another_is_by_the_clock():
    assert Latency.of([0.5] * 10).throughput == pytest.approx(2)
    assert Latency.of([0.5] * 10, elapsed_s=1.25).throughput == pytest.approx(8)


def test_a_disturbed_round_does_not_move_the_median():
    rounds = [Latency(10, 11, 12, 5, 100), Latency(500, 900, 999, 5, 1), Latency(12, 13, 14, 5, 80)]

    assert Latency.median_of(rounds) == Latency(12, 13, 14, 15, 80)


@pytest.mark.parametrize("summary", [Latency.of, Latency.median_of])
def test_nothing_measured_is_an_error(summary):
    with pytest.raises(BenchmarkError, match="measured"):
        summary([])


def test_results_survive_their_file(tmp_path: Path):
    results = Results("a run", full_size=True, about={"cores": "2"}, settings={"rounds": 5}, notes=["without"])
    results.rows = [ROW, replace(ROW, concurrency=None, rate=12.5, peak_mib=None)]
    results.waterfalls = {"limit": [Segment("decoder", "compute", 3.5)]}

    results.save(tmp_path / "results.json")

    assert Results.load(tmp_path / "results.json") == results


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"rows": 3, "waterfalls": {}}', "[]"])
def test_another_file_is_refused(tmp_path: Path, text: str):
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(BenchmarkError, match="not a results file of these benchmarks"):
        Results.load(tmp_path / "results.json")
