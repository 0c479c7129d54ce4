"""The whole comparison on this machine: limit, server, gateway and baselines in one run."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam3_server import TritonServer
from sam3_triton import Sam3Client

from benchmarks import loads, waterfall
from benchmarks.figures import BenchmarkError
from benchmarks.http_load import post_clicks
from benchmarks.limit import Limit
from benchmarks.observer import family
from benchmarks.perf_analyzer import Window
from benchmarks.response_cache import NAME as RESPONSE_CACHE
from benchmarks.response_cache import serving_with_response_cache
from benchmarks.results import Results, about_here
from benchmarks.scenarios import Amount, Bench, Target
from benchmarks.services import Service, fastapi_baseline, gateway, serving
from benchmarks.systems import Album, Way, baseline_system, limit_system, triton_system

PLAIN_BASELINE, LAST_IMAGE_BASELINE = "FastAPI", "FastAPI, last image"
# Callers, and images that they click on, of the comparison of throughput.
CALLERS = 8


@dataclass(frozen=True)
class Network:
    """A checkpoint as `sam3-export` takes it."""

    checkpoint: Path
    config: Path | None

    def check_exported(self, repository: Path) -> None:
        """Makes sure that both sides of the comparison have the same weights.

        Raises:
            BenchmarkError: the repository's artifacts come from another checkpoint, or there are none.
        """
        report = repository / "sam3" / "exports" / "current" / "export.json"
        try:
            exported = json.loads(report.read_text())["checkpoint"]
            ours = hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()
        except OSError as error:
            raise BenchmarkError(f"{error.filename}: {error.strerror}; run sam3-export first") from error
        if exported["sha256"] != ours:
            raise BenchmarkError(
                f"{repository} was exported from {exported['source']}, not from {self.checkpoint}: see --checkpoint"
            )


@contextmanager
def local_target(repository: Path) -> Iterator[Target]:
    """A server over a copy of a repository, and a gateway in front of it."""
    with (
        tempfile.TemporaryDirectory(prefix="sam3-trace-") as folder,
        serving(repository, waterfall.flags(Path(folder))) as server,
        gateway(server.grpc_url) as front,
    ):
        yield Target(server.grpc_url, f"http://{server.http_url}", front, family(server.pid), Path(folder))


def compare(title: str, repository: Path, network: Network, amount: Amount) -> Results:
    """Limit, server and gateway over `repository`, and the baselines over the checkpoint that it was exported from."""
    with ExitStack() as stack:
        bench = Bench(title, stack.enter_context(local_target(repository)), amount)
        bench.results.about = about_here() | bench.results.about
        limit = Limit(repository, bench.triton)
        limits = limit_system(limit)
        baselines = {
            name: stack.enter_context(fastapi_baseline(network.checkpoint, network.config, *flags))
            for name, flags in ((PLAIN_BASELINE, ()), (LAST_IMAGE_BASELINE, ("--last-image",)))
        }
        cached = stack.enter_context(serving_with_response_cache(repository))
        in_turns = [
            loads.limit_clicks(limits, limit, bench.album, amount.block),
            *bench.single_clicks(),
            second_click(LAST_IMAGE_BASELINE, baselines[LAST_IMAGE_BASELINE], bench.album, amount.block),
            # Where every request encodes, a few say as much.
            second_click(PLAIN_BASELINE, baselines[PLAIN_BASELINE], bench.album, max(2, amount.block // 10)),
        ]
        bench.add([*in_turns, *response_cache_clicks(bench, cached, (1,))], amount.rounds)
        bench.waterfall()
        bench.results.waterfalls["limit"] = waterfall.of_limit(limit)
        bench.concurrent_clicks()
        bench.add(response_cache_clicks(bench, cached, amount.concurrencies))
        for name, service in baselines.items():
            clicks = Album(bench.album.clicks)
            bench.add([loads.uploads(baseline_system(service, name), service, clicks, 4 * CALLERS, CALLERS)])
        bench.open_loop()
        bench.add([loads.limit_cold(limits, limit, amount.cold)])
        bench.cold()
        bench.click_trace(bench.system, bench.target.grpc_url)
        bench.click_trace(triton_system(cached.grpc_url, *family(cached.pid), name=RESPONSE_CACHE), cached.grpc_url)
        return bench.results


def second_click(name: str, service: Service, album: Album, count: int) -> Way:
    """Clicks on an image that a baseline has just had."""
    first = album.clicks[0]
    post_clicks(service.url, [first], 1)
    clicks = [click for click in album.clicks if click.image is first.image]
    return loads.uploads(baseline_system(service, name), service, Album(clicks, encodes=1), count)


def response_cache_clicks(bench: Bench, server: TritonServer, concurrencies: tuple[int, ...]) -> list[Way]:
    """Warm clicks by bytes; by id there is nothing to find."""
    if bench.perf is None:
        return []
    system = triton_system(server.grpc_url, *family(server.pid), name=RESPONSE_CACHE)
    with Sam3Client(server.grpc_url) as client:
        album = loads.warm_album(system, client)
    window = Window(bench.amount.window_s)
    return [
        loads.perf_clicks(system, bench.perf, server.grpc_url, album, window, by="bytes", concurrency=concurrency)
        for concurrency in concurrencies
    ]
