"""SAM 3's own mask decoder with random weights, served and bare; and the plain baseline with SAM 3's own encoder."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import loads, waterfall
from benchmarks.figures import BenchmarkError
from benchmarks.limit import Limit
from benchmarks.local import LAST_IMAGE_BASELINE, PLAIN_BASELINE, local_target, second_click
from benchmarks.random_weights import FULL_SIZE, FULL_SIZE_DECODER, copy_bare_repository, write_checkpoint
from benchmarks.results import Results, about_here
from benchmarks.scenarios import Amount, Bench
from benchmarks.services import fastapi_baseline
from benchmarks.systems import Album, Way, baseline_system, limit_system

AMOUNT = Amount(
    rounds=10, block=30, requests=32, window_s=1.8, concurrencies=(8,), cold=0, trace_images=0, trace_clicks=0
)
# A request of the plain baseline takes most of a minute on two cores.
_PLAIN_REQUESTS = 2


def compare_full_size(folder: Path, with_encoder: bool) -> Results:
    """Limit, server, gateway and the last-image baseline on one decoder; then the plain baseline, which encodes.

    Args:
        folder: for checkpoints, which are taken if they are there already, and for the repository, which is made anew:
            what is measured must be of this version.
        with_encoder: whether the plain baseline is measured: 8 GB of memory, and minutes.
    """
    decoder, repository = folder / "sam3_decoder.pt", folder / "model_repository"
    if not decoder.exists():
        write_checkpoint(decoder, FULL_SIZE_DECODER)
    _export(decoder, repository)
    with ExitStack() as stack:
        title = "Benchmarks, SAM 3's own mask decoder, random weights"
        bench = Bench(title, stack.enter_context(local_target(repository)), AMOUNT)
        bench.results.full_size = True
        bench.results.about = about_here() | bench.results.about
        limit = Limit(repository, bench.triton)
        last = stack.enter_context(fastapi_baseline(decoder, decoder.with_suffix(".json"), "--last-image"))
        bench.add(
            [
                loads.limit_clicks(limit_system(limit), limit, bench.album, AMOUNT.block),
                *bench.single_clicks(),
                second_click(LAST_IMAGE_BASELINE, last, bench.album, AMOUNT.block),
            ],
            AMOUNT.rounds,
        )
        bench.waterfall()
        bench.results.waterfalls["limit"] = waterfall.of_limit(limit)
        bench.concurrent_clicks()
        if with_encoder:
            bench.add([_plain(folder / "sam3.pt", bench.album, stack)])
        return bench.results


def _plain(checkpoint: Path, album: Album, stack: ExitStack) -> Way:
    if not checkpoint.exists():
        write_checkpoint(checkpoint, FULL_SIZE)
    service = stack.enter_context(fastapi_baseline(checkpoint, None))
    one_image = Album([click for click in album.clicks if click.image is album.clicks[0].image])
    return loads.uploads(baseline_system(service, PLAIN_BASELINE), service, one_image, _PLAIN_REQUESTS, warm_up=False)


def _export(checkpoint: Path, repository: Path) -> None:
    copy_bare_repository(repository)
    command = [sys.executable, "-m", "sam3_export.cli", "--checkpoint", str(checkpoint), "--formats", "onnx"]
    command += ["--config", str(checkpoint.with_suffix(".json")), "--repository", str(repository)]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise BenchmarkError("the full-size decoder could not be exported")
