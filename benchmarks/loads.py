"""The loads for each system."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from sam3_triton import Sam3Client
from sam3_triton.shared_memory import SharedMemoryTransport
from sam3_triton.transport import Transport, connect
from sam3_triton.wire import MODEL, Call, tensors
from tritonclient import grpc

from benchmarks.clicks import Click, clicks_on, detections, fresh_images, noise_png
from benchmarks.http_load import post_clicks
from benchmarks.limit import Limit
from benchmarks.perf_analyzer import PerfAnalyzer, Requests, Window, write_data
from benchmarks.results import BenchmarkError, Latency, Scenario, Tool
from benchmarks.services import Service
from benchmarks.systems import Album, Load, System

# Seconds of warm-up before each measurement. After a pause, caches and cores are cold for the first clicks;
# perf_analyzer's windows are long enough to hide that, ours are not.
_WARM_UP_S = 1.5
# Images for warm clicks, and clicks on each.
IMAGES, CLICKS_EACH = 8, 4
# A file of cold requests holds more images than are counted, by this factor: callers do not take them evenly.
_SPARE = 1.5
_OUTPUTS = ("MASKS", "SCORES", "LOW_RES_LOGITS", "IMAGE_ID", "CACHE_HIT")
_TIMEOUT_S = 60


def warm_album(system: System, client: Sam3Client, images: int = IMAGES) -> Album:
    """Images that the server has just encoded, and clicks on them."""
    clicks = clicks_on(fresh_images(images), CLICKS_EACH)
    before = system.work()
    for click in clicks[:images]:
        client.set_image(click.image)
    return Album(clicks, system.work().encodes - before.encodes)


def limit_clicks(system: System, limit: Limit, album: Album, count: int) -> Load:
    """Clicks on features that the limit has already computed."""
    embeddings = {click.image_id: limit.encode(click.image) for click in album.clicks[: album.images]}
    turns = itertools.cycle(album.clicks)

    def run() -> Latency:
        return _one_by_one(lambda click: limit.mask(embeddings[click.image_id], click), turns, count)

    known = Album(album.clicks, len(embeddings))
    return Load(system, Scenario.WARM_BY_ID, "in process", Tool.PLAIN, _warmed_up(run), known)


def limit_cold(system: System, limit: Limit, count: int) -> Load:
    """The first click on an image."""

    def run() -> Latency:
        clicks = clicks_on(fresh_images(count), 1)
        return _one_by_one(lambda click: limit.mask(limit.encode(click.image), click), clicks, count)

    return Load(system, Scenario.COLD, "in process", Tool.PLAIN, run, None)


def client_clicks(system: System, client: Sam3Client, album: Album, count: int) -> Load:
    """Clicks by id through the project's client. It requests what the limit computes: the mask, but no logits."""
    turns = itertools.cycle(album.clicks)

    def click_by_id(click: Click) -> None:
        if not client.predict(image_id=click.image_id, points=[click.point], logits=False).cache_hit:
            raise BenchmarkError("a click was not warm: its image is no longer cached")

    run = _warmed_up(lambda: _one_by_one(click_by_id, turns, count))
    return Load(system, Scenario.WARM_BY_ID, "gRPC", Tool.CLIENT, run, album)


def detected_boxes(system: System, client: Sam3Client, album: Album, count: int) -> list[Load]:
    """The boxes of a detector on an image: in one request, and in as many requests one after the other."""
    boxes = detections()

    def together(click: Click) -> None:
        client.predict_objects(image_id=click.image_id, boxes=boxes, logits=False)

    def apart(click: Click) -> None:
        for box in boxes:
            client.predict(image_id=click.image_id, box=box, logits=False)

    def load(scenario: str, send: Callable[[Click], None]) -> Load:
        turns = itertools.cycle(album.clicks)
        return Load(system, scenario, "gRPC", Tool.CLIENT, _warmed_up(lambda: _one_by_one(send, turns, count)), album)

    return [load(Scenario.BOXES_TOGETHER, together), load(Scenario.BOXES_APART, apart)]


def prepared_clicks(system: System, url: str, album: Album, count: int) -> Load:
    """Clicks by id as perf_analyzer sends them: requests are built beforehand, answers are not decoded."""
    client = grpc.InferenceServerClient(url)
    requests = [tensors(grpc, call) for call in map(_call_by_id, album.clicks)]
    turns = itertools.cycle(requests)

    def send(request: tuple[list[Any], list[Any]]) -> None:
        client.infer(MODEL, request[0], outputs=request[1])

    run = _warmed_up(lambda: _one_by_one(send, turns, count))
    return Load(system, Scenario.WARM_BY_ID, "gRPC", Tool.PREPARED, run, album)


def _call_by_id(click: Click) -> Call:
    points = np.array([[click.point]], np.float32)
    return Call({"CACHED_IMAGE_ID": np.array([click.image_id.encode()], np.object_), "POINTS": points}, _OUTPUTS)


def image_uploads(system: System, url: str, side: int, count: int) -> list[Load]:
    """One cached image, sent by the client's transports over gRPC and through shared memory.

    The request asks only for the id, so only the transport of the bytes differs.

    Args:
        side: of the image, in pixels; its file has 3 * side * side bytes and a few more.
    """
    click = Click(noise_png(side), (0, 0))
    call = Call({"IMAGE": np.array([click.image], np.object_)}, ("IMAGE_ID",))
    before = system.work()
    with closing(connect(url, _TIMEOUT_S)) as transport:
        transport.infer(call, _TIMEOUT_S)
    album = Album([click], system.work().encodes - before.encodes)

    def load(way: str, open_transport: Callable[[], Transport]) -> Load:
        def run() -> Latency:
            with closing(open_transport()) as transport:
                transport.infer(call, _TIMEOUT_S)
                return _one_by_one(lambda call: transport.infer(call, _TIMEOUT_S), itertools.repeat(call), count)

        return Load(system, f"{Scenario.UPLOAD}, {len(click.image) / 1e6:.1f} MB", way, Tool.TRANSPORT, run, album)

    return [
        load("gRPC", lambda: connect(url, _TIMEOUT_S)),
        load("shared memory", lambda: SharedMemoryTransport(connect(url, _TIMEOUT_S))),
    ]


def client_together(system: System, url: str, images: int, callers: int) -> Load:
    """All callers click on the same new image at one time, and then on the next one."""
    clicks = [click for click in clicks_on(fresh_images(images), 1) for _ in range(callers)]
    return replace(client_trace(system, url, clicks, callers), scenario=Scenario.TOGETHER)


def client_trace(system: System, url: str, trace: Sequence[Click], callers: int) -> Load:
    """A trace through the project's client, which sends the id first, and the image if the server lacks it."""

    def run() -> Latency:
        with Sam3Client(url) as client, ThreadPoolExecutor(callers) as pool:

            def timed(click: Click) -> float:
                started = time.perf_counter()
                client.predict(click.image, points=[click.point])
                return time.perf_counter() - started

            started = time.perf_counter()
            seconds = list(pool.map(timed, trace))
            return Latency.of(seconds, time.perf_counter() - started)

    return Load(system, Scenario.TRACE, "gRPC", Tool.CLIENT, run, Album(trace), callers)


def perf_clicks(
    system: System,
    perf: PerfAnalyzer,
    url: str,
    album: Album,
    window: Window,
    *,
    by: str,
    concurrency: int = 1,
    rate: float | None = None,
) -> Load:
    """Warm clicks through perf_analyzer, their images named by `id` or sent as `bytes`."""
    data = write_data(perf.folder / f"{system.name} {by}.json", album.clicks, by)
    scenario = {"id": Scenario.WARM_BY_ID, "bytes": Scenario.WARM_BY_BYTES}[by]

    def run() -> Latency:
        return perf.run(url, data, window, concurrency=concurrency, rate=rate)

    return Load(system, scenario, protocol(url), Tool.PERF, run, album, None if rate else concurrency, rate)


def perf_trace(system: System, perf: PerfAnalyzer, url: str, trace: Album, callers: int) -> Load:
    """A trace through perf_analyzer, each click with its image."""
    data = write_data(perf.folder / "trace.json", trace.clicks, "bytes")

    def run() -> Latency:
        return perf.run(url, data, Requests(len(trace.clicks)), concurrency=callers)

    return Load(system, Scenario.TRACE, protocol(url), Tool.PERF, run, trace, callers)


def perf_cold(system: System, perf: PerfAnalyzer, url: str, count: int, concurrency: int) -> Load:
    """Every request brings a new image."""

    def run() -> Latency:
        clicks = clicks_on(fresh_images(int(_SPARE * count)), 1)
        data = write_data(perf.folder / "cold.json", clicks, "bytes")
        return perf.run(url, data, Requests(count), concurrency=concurrency)

    return Load(system, Scenario.COLD, protocol(url), Tool.PERF, run, None, concurrency)


def uploads(
    system: System, service: Service, album: Album, count: int, concurrency: int = 1, warm_up: bool = True
) -> Load:
    """Clicks on known images, posted with the whole image each time.

    Args:
        warm_up: False if each request encodes at SAM 3's own size, where a warm-up would take minutes.
    """

    def run() -> Latency:
        return post_clicks(service.url, album.clicks, count, concurrency)

    warmed_up = _warmed_up(run) if warm_up else run
    return Load(system, Scenario.WARM_BY_BYTES, "HTTP", Tool.UPLOADS, warmed_up, album, concurrency)


def cold_uploads(system: System, service: Service, count: int) -> Load:
    """Posts of new images."""

    def run() -> Latency:
        return post_clicks(service.url, clicks_on(fresh_images(count), 1), count)

    return Load(system, Scenario.COLD, "HTTP", Tool.UPLOADS, run, None)


def protocol(url: str) -> str:
    """The protocol of a URL, in words."""
    return "HTTP" if url.startswith("http://") else "gRPC"


def _warmed_up(run: Callable[[], Latency]) -> Callable[[], Latency]:
    def run_warm() -> Latency:
        started = time.perf_counter()
        while time.perf_counter() - started < _WARM_UP_S:
            run()
        return run()

    return run_warm


def _one_by_one(call: Callable[[Any], object], arguments: Iterable[Any], count: int) -> Latency:
    seconds = []
    for argument in itertools.islice(arguments, count):
        started = time.perf_counter()
        call(argument)
        seconds.append(time.perf_counter() - started)
    return Latency.of(seconds)
