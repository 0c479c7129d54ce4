"""Input data for perf_analyzer, and its reports (from the real 2.48)."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import pytest

from benchmarks.clicks import clicks_on, fresh_images
from benchmarks.perf_analyzer import PerfAnalyzer, Requests, Window, parse, write_data
from benchmarks.results import BenchmarkError

REPORT = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
    "Avg latency,request/response,response wait\n"
    "4,9.93361,1032,299469,1,161,26212,2279,366,353173,409354,468348,553077,320000,1398,328095\n"
)
SAID = "Request concurrency: 4\n  Client: \n    Request count: 40\n    Throughput: 9.93361 infer/sec\n"


def test_a_report_is_read_in_milliseconds():
    latency = parse(REPORT, SAID, 4)

    assert (latency.median_ms, latency.p90_ms, latency.p99_ms, latency.count) == (353.173, 409.354, 553.077, 40)


def test_throughput_of_a_closed_loop_is_that_of_its_mean_latency():
    assert parse(REPORT, SAID, 4).throughput == pytest.approx(4 / 0.32)
    assert parse(REPORT, SAID, None).throughput == 9.93361


@pytest.mark.parametrize(
    ("report", "said", "fault"),
    [
        ("", SAID, "0 loads"),
        (REPORT + REPORT.splitlines()[1], SAID, "2 loads"),
        (REPORT.replace("p90 latency", "p91 latency"), SAID, "not understood"),
        (REPORT.replace("320000", "many"), SAID, "not understood"),
        (REPORT, "", "no request"),
    ],
)
def test_a_report_that_says_something_else_is_refused(report: str, said: str, fault: str):
    with pytest.raises(BenchmarkError, match=fault):
        parse(report, said, 4)


@pytest.mark.parametrize("by", ["id", "bytes"])
def test_data_carries_what_the_ensemble_takes(tmp_path: Path, by: str):
    clicks = clicks_on(fresh_images(2), 1)

    requests = json.loads(write_data(tmp_path / "data.json", clicks, by).read_text())["data"]

    for request, click in zip(requests, clicks, strict=True):
        name, wanted = ("IMAGE", click.image) if by == "bytes" else ("CACHED_IMAGE_ID", click.image_id.encode())
        assert set(request) == {name, "POINTS"}
        assert request[name]["shape"] == [1]
        assert request["POINTS"] == {"content": list(click.point), "shape": [1, 1, 2]}
        packed = base64.b64decode(request[name]["content"]["b64"])
        assert struct.unpack("<I", packed[:4])[0] == len(wanted)
        assert packed[4:] == wanted


def test_a_window_is_three_windows_of_perf_analyzer():
    flags = Window(1.5).flags()

    assert flags[flags.index("--measurement-interval") + 1] == "500"
    assert flags[flags.index("--max-trials") + 1] == "3"
    assert Requests(40).flags() == ["--request-count", "40"]


def test_perf_analyzer_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    binary = tmp_path / "bin" / "perf_analyzer"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\necho Perf Analyzer Version 9.9.9 '(commit unknown)'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=":")

    found = PerfAnalyzer.find(tmp_path / "tools")

    assert (found.binary, found.version()) == (binary, "9.9.9")
    assert not (tmp_path / "tools" / "perf_analyzer").exists()


def test_a_perf_analyzer_that_fails_is_an_error_of_one_line(tmp_path: Path):
    binary = tmp_path / "perf_analyzer"
    binary.write_text("#!/bin/sh\necho something else >&2\necho Thread [0] had error: no such image >&2\nexit 99\n")
    binary.chmod(0o755)

    with pytest.raises(BenchmarkError, match="^perf_analyzer failed: Thread .0. had error: no such image$"):
        PerfAnalyzer(binary, tmp_path).run("localhost:1", tmp_path / "data.json", Requests(1))
