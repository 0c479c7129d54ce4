"""The benchmarks on a real server, as small as they can be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from repository import formats_here
from sam3_server import TritonServer

from benchmarks import PROJECT, concepts, first_click, loads
from benchmarks.__main__ import main
from benchmarks.clicks import clicks_on, fresh_images, zipf_trace
from benchmarks.limit import Limit
from benchmarks.local import Network, second_click
from benchmarks.perf_analyzer import PerfAnalyzer, Window, write_data
from benchmarks.precisions import compare_precisions, markdown
from benchmarks.results import LAST_IMAGE_BASELINE, BenchmarkError, Scenario
from benchmarks.scenarios import TOOLS, Amount, Bench, Target, measure_remote
from benchmarks.services import fastapi_baseline
from benchmarks.systems import Album, family, limit_system, measure

DEMO = PROJECT / "export" / "sam3_export" / "demo" / "sam3_demo.pt"
AMOUNT = Amount(
    rounds=2, block=4, requests=8, window_s=0.6, concurrencies=(2,), cold=4, trace_images=3, trace_clicks=12
)


@pytest.fixture(scope="module")
def demo(serve, exported_demo: Path) -> TritonServer:
    return serve(exported_demo)


@pytest.fixture(scope="module")
def bench(demo: TritonServer) -> Bench:
    return Bench("a test", Target(demo.grpc_url, f"http://{demo.http_url}", None, family(demo.pid)), AMOUNT)


@pytest.fixture(scope="module")
def limit(bench: Bench, exported_demo: Path) -> Limit:
    return Limit(exported_demo, bench.triton)


@pytest.fixture(scope="module")
def perf() -> PerfAnalyzer:
    try:
        return PerfAnalyzer.find(TOOLS)
    except BenchmarkError as error:
        pytest.skip(f"perf_analyzer cannot be had here: {error}")


def mask(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))) > 0


def test_the_limit_does_the_servers_work(bench: Bench, limit: Limit):
    for click in bench.album.clicks[:4]:
        answer = bench.client.predict(image_id=click.image_id, points=[click.point])
        found = mask(limit.mask(limit.encode(click.image), click))

        assert (found == answer.masks[0]).mean() > 0.999


def test_the_baseline_does_it_too_and_keeps_one_image(bench: Bench):
    first, second = clicks_on(fresh_images(2), 1)
    with fastapi_baseline(DEMO, DEMO.with_suffix(".json"), "--last-image") as service:
        for click in (first, first, second, first):
            files, fields = {"image": ("image.jpg", click.image)}, {"points": str([list(click.point)])}
            answer = requests.post(f"{service.url}/predict/mask", files=files, data=fields)
            served = bench.client.predict(click.image, points=[click.point])
            assert (mask(answer.content) == served.masks[0]).mean() > 0.99
        assert requests.get(f"{service.url}/health").json() == {"encodes": 3, "requests": 4}

        (row,) = measure([second_click(LAST_IMAGE_BASELINE, service, Album([first]), 3)])
        assert (row.latency.count, row.encoder_runs, row.hit_rate) == (3, 1, 1.0)
        assert row.peak_mib > 100


def test_rows_say_how_often_the_encoder_ran(bench: Bench, limit: Limit):
    limits = limit_system(limit)
    warm_limit, cold_limit, client = measure(
        [
            loads.limit_clicks(limits, limit, bench.album, 4),
            loads.limit_cold(limits, limit, 2),
            loads.client_clicks(bench.system, bench.client, bench.album, 4),
        ],
        rounds=2,
    )

    assert (warm_limit.latency.count, warm_limit.encoder_runs, warm_limit.distinct_images) == (8, 8, 8)
    assert (cold_limit.requests, cold_limit.encoder_runs, cold_limit.distinct_images) == (4, 4, 4)
    assert cold_limit.latency.median_ms > warm_limit.latency.median_ms
    assert (client.latency.count, client.encodes_per_image, client.hit_rate) == (8, 1, 1)
    assert min(warm_limit.requests, client.requests) > 8  # those that warm up are no figures


def test_a_trace_of_several_callers_encodes_each_image_once(bench: Bench, demo: TritonServer):
    trace = zipf_trace(fresh_images(3), 12)

    (row,) = measure([loads.client_trace(bench.system, demo.grpc_url, trace, 4)])

    assert (row.requests, row.encoder_runs, row.distinct_images, row.hit_rate) == (12, 3, 3, 0.75)


def test_perf_analyzer_measures_the_ensemble(bench: Bench, perf: PerfAnalyzer, demo: TritonServer):
    urls = bench.target.urls
    ways = [
        loads.perf_clicks(bench.system, perf, url, bench.album, Window(0.6), by=by)
        for url, by in zip(urls, ("id", "bytes"), strict=True)
    ]
    ways.append(loads.perf_clicks(bench.system, perf, urls[0], bench.album, Window(0.6), by="id", rate=20))
    ways.append(loads.perf_cold(bench.system, perf, urls[0], 4, 2))

    by_id, by_bytes, open_loop, cold = measure(ways)

    for row, scenario, way in ((by_id, Scenario.WARM_BY_ID, "gRPC"), (by_bytes, Scenario.WARM_BY_BYTES, "HTTP")):
        assert (row.scenario, row.way, row.encodes_per_image, row.hit_rate) == (scenario, way, 1, 1)
        assert 0 < row.latency.median_ms <= row.latency.p99_ms
    assert (open_loop.concurrency, open_loop.load) == (None, "20/s")
    assert (cold.hit_rate, cold.encodes_per_image) == (0, 1)
    assert cold.latency.count == 4 <= cold.requests


def test_a_request_that_fails_is_no_figure(perf: PerfAnalyzer, demo: TritonServer):
    data = write_data(perf.folder / "unknown.json", clicks_on(fresh_images(1), 1), "id")

    with pytest.raises(BenchmarkError, match="is cached; send IMAGE"):
        perf.run(demo.grpc_url, data, Window(0.6))


def test_an_image_is_sent_over_grpc_and_through_shared_memory(bench: Bench, demo: TritonServer):
    before = set(Path("/dev/shm").glob("sam3_client_*"))

    rows = measure(loads.image_uploads(bench.system, demo.grpc_url, 400, 3), rounds=2)

    assert [row.way for row in rows] == ["gRPC", "shared memory"]
    for row in rows:
        assert (row.scenario, row.latency.count) == ("image upload, 0.5 MB", 6)
        assert (row.encodes_per_image, row.hit_rate) == (1, 1)
    assert set(Path("/dev/shm").glob("sam3_client_*")) == before


def test_a_format_is_compared_with_fp32(exported_demo: Path, tmp_path: Path):
    installed, two = (one / "sam3" / "exports" / "current" for one in (exported_demo, tmp_path))
    for name in ("export.json", "sam3_image_encoder/model.onnx", "sam3_image_encoder/model.fp16.onnx"):
        (two / name).parent.mkdir(parents=True, exist_ok=True)
        (two / name).symlink_to(installed / name)
    (two / "sam3_mask_decoder").symlink_to(installed / "sam3_mask_decoder")

    figures = compare_precisions(tmp_path, DEMO, rounds=2, scenes=2)

    assert list(figures) == ["onnx", "onnx-fp16"]
    full, half = figures.values()
    assert all(row["milliseconds"] > 0 and row["resident_megabytes"] > 100 for row in (full, half))
    assert full["feature_error"] < half["feature_error"]
    assert half["file_megabytes"] < full["file_megabytes"]
    assert 0.98 < half["mean_mask_iou"] <= full["mean_mask_iou"]
    assert full["mean_mask_iou"] > 0.999
    page = markdown(figures)
    assert "| `onnx` | x 1.00 | x 1.00 | x 1.00 |" in page
    assert "| `onnx-fp16` | x 0.5" in page


def test_precisions_without_fp32_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["precisions", "--repository", str(tmp_path), "--output", str(tmp_path)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "has no artifact in fp32: sam3-export --formats onnx" in line


def test_callers_of_one_new_image_share_its_encode(bench: Bench, demo: TritonServer):
    (row,) = measure([loads.client_together(bench.system, demo.grpc_url, 2, 8)])

    assert (row.requests, row.encoder_runs, row.distinct_images) == (16, 2, 2)


def test_a_server_elsewhere_is_measured_without_perf_analyzer(demo: TritonServer, monkeypatch: pytest.MonkeyPatch):
    def none(folder: Path) -> PerfAnalyzer:
        raise BenchmarkError("there is none")

    monkeypatch.setattr(PerfAnalyzer, "find", none)

    results = measure_remote(demo.grpc_url, None, None, AMOUNT)

    assert results.notes == ["Measured without perf_analyzer: there is none"]
    assert {row.scenario for row in results.rows} == {
        Scenario.WARM_BY_ID, Scenario.BOXES_TOGETHER, Scenario.BOXES_APART, Scenario.TRACE, Scenario.TOGETHER,
    }  # fmt: skip
    assert {row.peak_mib for row in results.rows} == {None}


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["remote", "--url", "127.0.0.1:1", "--output", str(tmp_path)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks: ")
    assert "127.0.0.1:1" in line


def test_artifacts_of_another_checkpoint_are_refused(exported_demo: Path):
    tiny = PROJECT / "tests" / "data" / "golden" / "sam3_tiny.pt"

    Network(DEMO, None).check_exported(exported_demo)
    with pytest.raises(BenchmarkError, match="exported from sam3_demo.pt, not from .*sam3_tiny.pt"):
        Network(tiny, None).check_exported(exported_demo)


def test_concept_prompts_are_measured_against_the_bare_detector(exported: Path, exported_concepts: Path) -> None:
    figures = concepts.measure({"clicks": exported, "concepts": exported_concepts}, rounds=1, block=2)
    assert set(figures["milliseconds"]) == {
        "bare detector and postprocess",
        "client.find",
        *(f"{what}, {export}" for what in ("click", "encode") for export in ("clicks", "concepts")),
    }
    assert all(value > 0 for part in ("milliseconds", "ratios") for value in figures[part].values())
    # In fp16, for a grid of 24: three features for clicks, of a neck with 64 channels, and the trunk's 96 channels.
    clicks = 8 * 96**2 + 16 * 48**2 + 64 * 24**2
    assert figures["cache_bytes_per_image"]["concepts"] == 2 * (clicks + 96 * 24**2)
    assert "| client.find |" in concepts.markdown(figures)


def test_first_clicks_in_fewer_bits_are_measured_against_fp32(exported_demo: Path) -> None:
    profiles = ["cpu", "cpu-bf16", *(["cpu-int8"] if "onnx-int8" in formats_here() else [])]
    figures = first_click.measure(exported_demo, profiles, rounds=1)
    times, ratios = figures["milliseconds"], figures["ratios"]
    assert list(times) == profiles
    assert min(times.values()) > 5  # the image encoder ran
    assert ratios["cpu-bf16"] == times["cpu-bf16"] / times["cpu"]
    for ratio, verdict in ((0.6, "bf16 takes at most x 0.65: kept"), (0.7, "bf16 takes at most x 0.65: not kept")):
        page = first_click.markdown({**figures, "ratios": {**ratios, "cpu-bf16": ratio}})
        assert verdict in page
        assert f"x {ratio:.2f} |" in page
    alone = {**figures, "milliseconds": {"cpu": 10.0}, "ratios": {"cpu": 1.0}}
    assert min(figures["encoder_peak_bytes"].values()) > 100e6
    assert "no instructions for bf16" in first_click.markdown(alone)
