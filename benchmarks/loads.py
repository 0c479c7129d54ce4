"""The ways of loading each system."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from sam3_triton import CachedImage, Sam3Client
from sam3_triton.conversations import segment
from sam3_triton.prompts import Prompt
from sam3_triton.wire import MODEL, Call, tensors
from tritonclient import grpc

from benchmarks.clicks import Click, clicks_on, fresh_images
from benchmarks.figures import BenchmarkError, Latency
from benchmarks.http_load import post_clicks
from benchmarks.limit import Limit
from benchmarks.perf_analyzer import PerfAnalyzer, Requests, Window, write_data
from benchmarks.services import Service
from benchmarks.systems import Album, System, Way

WARM_BY_ID, WARM_BY_BYTES, COLD = "warm by id", "warm by bytes", "cold"
TRACE, TOGETHER = "click trace", "first clicks together"
PERF, CLIENT, PLAIN, UPLOADS = "perf_analyzer", "Sam3Client", "plain calls", "uploads"
PREPARED = "tritonclient"
# How long a system is loaded before its turn counts: from idle, the first clicks find caches and cores cold, where
# perf_analyzer's windows are long enough not to show it.
_WARM_UP_S = 1.5
# Of images on which a warm click may fall, and of clicks on each.
IMAGES, CLICKS_EACH = 8, 4
# A file of cold requests holds so many more images than are counted, since callers do not take them evenly.
_SPARE = 1.5


def warm_album(system: System, client: Sam3Client, images: int = IMAGES) -> Album:
    """Images that the server has just encoded, and clicks on them."""
    clicks = clicks_on(fresh_images(images), CLICKS_EACH)
    before = system.work()
    for click in clicks[:images]:
        client.set_image(click.image)
    return Album(clicks, system.work().encodes - before.encodes)


def limit_clicks(system: System, limit: Limit, album: Album, count: int) -> Way:
    """Clicks on features that are there already."""
    embeddings = {click.image_id: limit.encode(click.image) for click in album.clicks[: album.images]}
    turns = itertools.cycle(album.clicks)

    def run() -> Latency:
        return _one_by_one(lambda click: limit.mask(embeddings[click.image_id], click), turns, count)

    known = Album(album.clicks, len(embeddings))
    return Way(system, WARM_BY_ID, "in process", PLAIN, _warmed_up(run), known)


def limit_cold(system: System, limit: Limit, count: int) -> Way:
    """The first click on an image."""

    def run() -> Latency:
        clicks = iter(clicks_on(fresh_images(count), 1))
        return _one_by_one(lambda click: limit.mask(limit.encode(click.image), click), clicks, count)

    return Way(system, COLD, "in process", PLAIN, run, None)


def client_clicks(system: System, client: Sam3Client, album: Album, count: int) -> Way:
    """Clicks by id through the project's client, which asks for what the limit makes: the mask, and no logits."""
    turns = itertools.cycle(album.clicks)

    def click_by_id(click: Click) -> None:
        if not client.predict(image_id=click.image_id, points=[click.point], logits=False).cache_hit:
            raise BenchmarkError("a warm click was none: its image was not cached any more")

    run = _warmed_up(lambda: _one_by_one(click_by_id, turns, count))
    return Way(system, WARM_BY_ID, "gRPC", CLIENT, run, album)


def prepared_clicks(system: System, url: str, album: Album, count: int) -> Way:
    """Clicks by id as perf_analyzer sends them: requests made beforehand, answers not looked into."""
    client = grpc.InferenceServerClient(url)
    requests = [tensors(grpc, call) for call in map(_call_by_id, album.clicks)]
    turns = itertools.cycle(requests)

    def send(request: tuple[list[Any], list[Any]]) -> None:
        client.infer(MODEL, request[0], outputs=request[1])

    run = _warmed_up(lambda: _one_by_one(send, turns, count))
    return Way(system, WARM_BY_ID, "gRPC", PREPARED, run, album)


def _call_by_id(click: Click) -> Call:
    prompt = Prompt.of([click.point], None, None, None, False)
    return next(segment(CachedImage(click.image_id), prompt, logits=True))


def client_together(system: System, url: str, images: int, callers: int) -> Way:
    """As many callers as there are click at one time on an image that nobody has seen, and then on the next one."""
    clicks = [click for click in clicks_on(fresh_images(images), 1) for _ in range(callers)]
    return replace(client_trace(system, url, clicks, callers), scenario=TOGETHER)


def client_trace(system: System, url: str, trace: Sequence[Click], callers: int) -> Way:
    """A trace as the project's client clicks: the id first, the image where the server lacks it."""

    def run() -> Latency:
        with Sam3Client(url) as client, ThreadPoolExecutor(callers) as pool:

            def timed(click: Click) -> float:
                started = time.perf_counter()
                client.predict(click.image, points=[click.point])
                return time.perf_counter() - started

            started = time.perf_counter()
            seconds = list(pool.map(timed, trace))
            return Latency.of(seconds, time.perf_counter() - started)

    return Way(system, TRACE, "gRPC", CLIENT, run, Album(trace), callers)


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
) -> Way:
    """Warm clicks through perf_analyzer, their images named by `id` or sent as `bytes`."""
    data = write_data(perf.folder / f"{system.name} {by}.json", album.clicks, by)
    scenario = {"id": WARM_BY_ID, "bytes": WARM_BY_BYTES}[by]

    def run() -> Latency:
        return perf.run(url, data, window, concurrency=concurrency, rate=rate)

    return Way(system, scenario, protocol(url), PERF, run, album, None if rate else concurrency, rate)


def perf_trace(system: System, perf: PerfAnalyzer, url: str, trace: Album, callers: int) -> Way:
    """A trace through perf_analyzer, each click with its image."""
    data = write_data(perf.folder / "trace.json", trace.clicks, "bytes")

    def run() -> Latency:
        return perf.run(url, data, Requests(len(trace.clicks)), concurrency=callers)

    return Way(system, TRACE, protocol(url), PERF, run, trace, callers)


def perf_cold(system: System, perf: PerfAnalyzer, url: str, count: int, concurrency: int) -> Way:
    """Every request brings an image that nobody has seen."""

    def run() -> Latency:
        clicks = clicks_on(fresh_images(int(_SPARE * count)), 1)
        data = write_data(perf.folder / "cold.json", clicks, "bytes")
        return perf.run(url, data, Requests(count), concurrency=concurrency)

    return Way(system, COLD, protocol(url), PERF, run, None, concurrency)


def uploads(
    system: System, service: Service, album: Album, count: int, concurrency: int = 1, warm_up: bool = True
) -> Way:
    """Clicks on known images, posted with the whole image each time.

    Args:
        warm_up: not worth the minutes where each request encodes at SAM 3's own size.
    """

    def run() -> Latency:
        return post_clicks(service.url, album.clicks, count, concurrency)

    return Way(system, WARM_BY_BYTES, "HTTP", UPLOADS, _warmed_up(run) if warm_up else run, album, concurrency)


def cold_uploads(system: System, service: Service, count: int, concurrency: int = 1) -> Way:
    """Posts of images that nobody has seen."""

    def run() -> Latency:
        return post_clicks(service.url, clicks_on(fresh_images(count), 1), count, concurrency)

    return Way(system, COLD, "HTTP", UPLOADS, run, None, concurrency)


def protocol(url: str) -> str:
    """What a URL is spoken to in, in words."""
    return "HTTP" if url.startswith("http://") else "gRPC"


def _warmed_up(run: Callable[[], Latency]) -> Callable[[], Latency]:
    def run_warm() -> Latency:
        started = time.perf_counter()
        while time.perf_counter() - started < _WARM_UP_S:
            run()
        return run()

    return run_warm


def _one_by_one(call: Callable[[Any], object], clicks: Iterator[Any], count: int) -> Latency:
    seconds = []
    for click in itertools.islice(clicks, count):
        started = time.perf_counter()
        call(click)
        seconds.append(time.perf_counter() - started)
    return Latency.of(seconds)
