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
from benchmarks.http_load import post_clicks
from benchmarks.limit import Limit
from benchmarks.perf_analyzer import Window
from benchmarks.results import (
    CALLERS,
    LAST_IMAGE_BASELINE,
    LIMIT,
    PLAIN_BASELINE,
    RESPONSE_CACHE,
    BenchmarkError,
    Results,
    about_here,
)
from benchmarks.scenarios import Amount, Bench, Target
from benchmarks.services import Service, fastapi_baseline, gateway, serving, serving_with_response_cache
from benchmarks.systems import Album, Load, System, baseline_system, family, limit_system, triton_system


@dataclass(frozen=True)
class Network:
    """A checkpoint as `sam3-export` takes it."""

    checkpoint: Path
    config: Path | None

    def check_exported(self, repository: Path) -> None:
        """Checks that both sides of the comparison have the same weights.

        Raises:
            BenchmarkError: the repository has no artifacts, or they were exported from another checkpoint.
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
def local_bench(title: str, repository: Path, amount: Amount) -> Iterator[tuple[Bench, Limit]]:
    """A run over a copy of a repository with a gateway in front of the server, and the limit with its networks."""
    with (
        tempfile.TemporaryDirectory(prefix="sam3-trace-") as folder,
        serving(repository, waterfall.flags(Path(folder))) as server,
        gateway(server.grpc_url) as front,
    ):
        target = Target(server.grpc_url, f"http://{server.http_url}", front, family(server.pid), Path(folder))
        bench = Bench(title, target, amount)
        bench.results.about = about_here() | bench.results.about
        yield bench, Limit(repository, bench.triton)


def compare(title: str, repository: Path, network: Network, amount: Amount) -> Results:
    """Measures limit, server and gateway on `repository`, and the baselines on the checkpoint it was exported from."""
    with ExitStack() as stack:
        bench, limit = stack.enter_context(local_bench(title, repository, amount))
        baselines = {
            name: stack.enter_context(fastapi_baseline(network.checkpoint, network.config, *flags))
            for name, flags in ((PLAIN_BASELINE, ()), (LAST_IMAGE_BASELINE, ("--last-image",)))
        }
        cached = stack.enter_context(serving_with_response_cache(repository))
        cache_system = triton_system(cached.grpc_url, *family(cached.pid), name=RESPONSE_CACHE)
        others = [
            second_click(LAST_IMAGE_BASELINE, baselines[LAST_IMAGE_BASELINE], bench.album, amount.block),
            # Every request encodes, so a few are enough.
            second_click(PLAIN_BASELINE, baselines[PLAIN_BASELINE], bench.album, max(2, amount.block // 10)),
            *response_cache_clicks(bench, cache_system, cached, (1,)),
        ]
        compare_warm_clicks(bench, limit, others)
        bench.add(response_cache_clicks(bench, cache_system, cached, amount.concurrencies))
        for name, service in baselines.items():
            clicks = Album(bench.album.clicks)
            bench.add([loads.uploads(baseline_system(service, name), service, clicks, 4 * CALLERS, CALLERS)])
        bench.open_loop()
        bench.add([loads.limit_cold(limit_system(limit), limit, amount.cold)])
        bench.cold()
        bench.click_trace(bench.system, bench.target.grpc_url)
        bench.click_trace(cache_system, cached.grpc_url)
        bench.image_uploads()
        return bench.results


def compare_warm_clicks(bench: Bench, limit: Limit, others: list[Load]) -> None:
    """Measures single warm clicks, for limit, server and gateway in turns with `others`; then where their time goes,
    and several clicks at a time."""
    first = loads.limit_clicks(limit_system(limit), limit, bench.album, bench.amount.block)
    bench.add([first, *bench.single_clicks(), *others], bench.amount.rounds)
    bench.detected_boxes()
    bench.waterfall()
    bench.results.waterfalls[LIMIT] = waterfall.of_limit(limit)
    bench.concurrent_clicks()


def second_click(name: str, service: Service, album: Album, count: int) -> Load:
    """Clicks on an image that a baseline has just received."""
    first = album.clicks[0]
    post_clicks(service.url, [first], 1)
    clicks = [click for click in album.clicks if click.image is first.image]
    return loads.uploads(baseline_system(service, name), service, Album(clicks, encodes=1), count)


def response_cache_clicks(
    bench: Bench, system: System, server: TritonServer, concurrencies: tuple[int, ...]
) -> list[Load]:
    """Warm clicks by bytes, because Triton's response cache cannot look up an id."""
    if bench.perf is None:
        return []
    with Sam3Client(server.grpc_url) as client:
        album = loads.warm_album(system, client)
    window = Window(bench.amount.window_s)
    return [
        loads.perf_clicks(system, bench.perf, server.grpc_url, album, window, by="bytes", concurrency=concurrency)
        for concurrency in concurrencies
    ]
