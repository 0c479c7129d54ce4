"""Measures a server, on this machine or another, with perf_analyzer, the project's client, and uploads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import tritonclient.grpc as triton
from sam3_triton import Sam3Client
from sam3_triton.channels import ARGUMENTS

from benchmarks import PROJECT, loads, waterfall
from benchmarks.clicks import Click, fresh_images, zipf_trace
from benchmarks.perf_analyzer import PerfAnalyzer, Window
from benchmarks.results import GATEWAY, SAM3, BenchmarkError, Results, Scenario, Tool, about_here
from benchmarks.services import Service
from benchmarks.systems import Album, Load, System, family, measure, triton_system

# Downloads are kept here between runs.
TOOLS = PROJECT / "out" / "bench" / "tools"
# Rates of arrival in an open loop, as shares of the throughput with eight callers.
LOAD_SHARES = (0.4, 0.7)
# Sides of the images that are sent over gRPC and through shared memory: files of 0.5, 4.3 and 18.8 MB.
UPLOAD_SIDES, _UPLOADS = (400, 1200, 2500), 8
_TRACE_CALLERS = 4
_TRACED_CLICKS = 60


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes:
        rounds: number of rounds in which systems take turns, with one request at a time.
        block: requests of each system in a round; perf_analyzer measures for `window_s` instead.
        requests: uploads in a row of the table with several requests at a time.
        window_s: seconds for which perf_analyzer measures warm clicks.
        concurrencies: numbers of requests at one time, besides 1.
        cold: requests in a row of the table with new images.
        trace_images: images in a click trace.
        trace_clicks: clicks in a click trace.
    """

    rounds: int
    block: int
    requests: int
    window_s: float
    concurrencies: tuple[int, ...]
    cold: int
    trace_images: int
    trace_clicks: int


SHORT = Amount(8, 30, 120, 1.5, (2, 4, 8, 16), 16, 12, 120)
LONG = Amount(10, 100, 600, 6.0, (2, 4, 8, 16), 60, 50, 1000)


@dataclass(frozen=True)
class Target:
    """A server to measure.

    Attributes:
        http_url: `http://host:port` of its HTTP endpoint; None to measure gRPC alone.
        gateway: a gateway in front of it, if any.
        processes: the processes whose memory counts; none if it runs on another machine.
        trace_folder: where it can write traces; None if it runs on another machine.
    """

    grpc_url: str
    http_url: str | None = None
    gateway: Service | None = None
    processes: tuple[psutil.Process, ...] = ()
    trace_folder: Path | None = None

    @property
    def urls(self) -> list[str]:
        """One for each protocol that is measured."""
        return [self.grpc_url] + ([self.http_url] if self.http_url else [])

    def system(self) -> System:
        """The server itself."""
        return triton_system(self.grpc_url, *self.processes)

    def gateway_system(self) -> System:
        """The gateway with the server behind it."""
        gateway = family(self.gateway.pid) if self.gateway and self.gateway.pid else ()
        return triton_system(self.grpc_url, *self.processes, *gateway, name=GATEWAY)


class Bench:
    """One run over one target."""

    def __init__(self, title: str, target: Target, amount: Amount) -> None:
        self.target = target
        self.amount = amount
        self.results = Results(title, settings=asdict(amount))
        self.client = Sam3Client(target.grpc_url, timeout_s=600)
        self.triton = triton.InferenceServerClient(target.grpc_url, channel_args=ARGUMENTS)
        self.results.about["triton"] = self.triton.get_server_metadata().version
        self.system = target.system()
        self.album = loads.warm_album(self.system, self.client)
        self.perf = self._find_perf_analyzer()

    def add(self, ways: Iterable[Load], rounds: int = 1) -> None:
        """Measures loads and adds their rows to the results."""
        self.results.rows += measure(list(ways), rounds)

    def single_clicks(self) -> list[Load]:
        """Loads of one warm click at a time, for each transport and tool, to be measured in turns."""
        block, seconds = self.amount.block, self.amount.window_s
        ways = [loads.client_clicks(self.system, self.client, self.album, block)]
        if self.perf:
            for url in self.target.urls:
                if loads.protocol(url) == "gRPC":
                    ways.append(loads.prepared_clicks(self.system, url, self.album, block))
                for by in ("id", "bytes"):
                    ways.append(loads.perf_clicks(self.system, self.perf, url, self.album, Window(seconds), by=by))
        if self.target.gateway:
            ways.append(loads.uploads(self.target.gateway_system(), self.target.gateway, self.album, block))
        return ways

    def detected_boxes(self) -> None:
        """Measures several boxes on an image, in one request and one by one."""
        count = max(2, self.amount.block // 10)
        self.add(loads.detected_boxes(self.system, self.client, self.album, count), self.amount.rounds)

    def concurrent_clicks(self) -> None:
        """Measures several warm clicks at a time."""
        count, window = self.amount.requests, Window(self.amount.window_s)
        for concurrency in self.amount.concurrencies:
            if self.perf:
                self.add(
                    loads.perf_clicks(self.system, self.perf, url, self.album, window, by=by, concurrency=concurrency)
                    for url in self.target.urls
                    for by in ("id", "bytes")
                )
            if self.target.gateway:
                system = self.target.gateway_system()
                self.add([loads.uploads(system, self.target.gateway, self.album, count, concurrency)])

    def open_loop(self) -> None:
        """Measures warm clicks by id that arrive as a Poisson process."""
        known = self.results.find(SAM3, Scenario.WARM_BY_ID, Tool.PERF, "gRPC", 8)
        if self.perf and known:
            for share in LOAD_SHARES:
                rate = max(1, round(share * known.latency.throughput))
                url, window = self.target.grpc_url, Window(2 * self.amount.window_s)
                self.add([loads.perf_clicks(self.system, self.perf, url, self.album, window, by="id", rate=rate)])

    def cold(self) -> None:
        """Measures clicks that each bring a new image."""
        count = self.amount.cold
        if self.perf:
            for concurrency in (1, 4):
                self.add(loads.perf_cold(self.system, self.perf, url, count, concurrency) for url in self.target.urls)
        if self.target.gateway:
            self.add([loads.cold_uploads(self.target.gateway_system(), self.target.gateway, count)])

    def click_trace(self, system: System, url: str) -> None:
        """Measures a trace in which a few images get most clicks; then eight callers on the same new image."""
        images, length = self.amount.trace_images, self.amount.trace_clicks
        self.add([loads.client_trace(system, url, zipf_trace(fresh_images(images), length), _TRACE_CALLERS)])
        if self.perf:
            trace = Album(zipf_trace(fresh_images(images), length))
            self.add([loads.perf_trace(system, self.perf, url, trace, _TRACE_CALLERS)])
        self.add([loads.client_together(system, url, images, 2 * _TRACE_CALLERS)])

    def image_uploads(self) -> None:
        """Measures what shared memory saves; the server must share /dev/shm with this process."""
        for side in UPLOAD_SIDES:
            self.add(loads.image_uploads(self.system, self.target.grpc_url, side, _UPLOADS), self.amount.rounds)

    def waterfall(self) -> None:
        """Measures where the time of a warm click goes."""
        if self.target.trace_folder:

            def one(click: Click) -> Callable[[], object]:
                return lambda: self.client.predict(image_id=click.image_id, points=[click.point], logits=False)

            # Another load has just used the caches and cores; without a warm-up that would count as the models' time.
            loads.client_clicks(self.system, self.client, self.album, self.amount.block).run()
            clicks = [one(click) for click in itertools.islice(itertools.cycle(self.album.clicks), _TRACED_CLICKS)]
            self.results.waterfalls[SAM3] = waterfall.of_server(self.triton, self.target.trace_folder, clicks)

    def _find_perf_analyzer(self) -> PerfAnalyzer | None:
        try:
            perf = PerfAnalyzer.find(TOOLS)
        except BenchmarkError as error:
            self.results.notes.append(f"Measured without perf_analyzer: {error}")
            return None
        self.results.about["perf_analyzer"] = perf.version()
        return perf


def measure_remote(grpc_url: str, http_url: str | None, gateway_url: str | None, amount: Amount) -> Results:
    """Measures all that can be measured from outside; the results describe the sending machine."""
    gateway = Service(gateway_url.rstrip("/")) if gateway_url else None
    bench = Bench(f"Benchmarks of {grpc_url}", Target(grpc_url, http_url, gateway), amount)
    bench.results.about = {f"caller's {name}": value for name, value in about_here().items()} | bench.results.about
    bench.add(bench.single_clicks(), amount.rounds)
    bench.detected_boxes()
    bench.concurrent_clicks()
    bench.open_loop()
    bench.cold()
    bench.click_trace(bench.system, grpc_url)
    return bench.results
