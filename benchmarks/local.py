"""The whole comparison on this machine: limit, server, gateway and baselines in one run."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import loads, waterfall
from benchmarks.figures import BenchmarkError
from benchmarks.http_load import post_clicks
from benchmarks.limit import Limit
from benchmarks.observer import family
from benchmarks.results import Results, about_here
from benchmarks.scenarios import Amount, Bench, Target
from benchmarks.services import Service, fastapi_baseline, gateway, serving
from benchmarks.systems import Album, Way, baseline_system, limit_system

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
        bench.add(
            [
                loads.limit_clicks(limits, limit, bench.album, amount.block),
                *bench.single_clicks(),
                *(_second_click(name, service, bench.album, amount) for name, service in baselines.items()),
            ],
            amount.rounds,
        )
        bench.waterfall()
        bench.results.waterfalls["limit"] = waterfall.of_limit(limit)
        bench.concurrent_clicks()
        for name, service in baselines.items():
            clicks = Album(bench.album.clicks)
            bench.add([loads.uploads(baseline_system(service, name), service, clicks, 4 * CALLERS, CALLERS)])
        bench.open_loop()
        bench.add([loads.limit_cold(limits, limit, amount.cold)])
        bench.cold()
        bench.click_trace()
        return bench.results


def _second_click(name: str, service: Service, album: Album, amount: Amount) -> Way:
    """Clicks on an image that the service has just had."""
    system = baseline_system(service, name)
    first = album.clicks[0]
    post_clicks(service.url, [first], 1)
    clicks = [click for click in album.clicks if click.image is first.image]
    # Where every request encodes, a few say as much.
    count = amount.block if name == LAST_IMAGE_BASELINE else max(2, amount.block // 10)
    return loads.uploads(system, service, Album(clicks, encodes=1), count)
