"""The first click on an image at SAM 3's own size with random weights: bf16 against fp32, on this machine's CPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sam3_server import Ports, TritonServer
from sam3_triton import Sam3Client
from sam3_triton.cpu import bf16_instructions

from benchmarks.clicks import Click, clicks_on, fresh_images
from benchmarks.full_size import FULL_SIZE, write_checkpoint
from benchmarks.report import table
from benchmarks.repositories import exported
from benchmarks.services import free_ports
from benchmarks.turns import in_turns

FP32, BF16 = "cpu", "cpu-bf16"
# What bf16 is for, on a CPU with instructions for it.
TARGET = 0.65
ROUNDS = 5
# Most of a minute on two cores, several times that for a first image.
_TIMEOUT_S = 900
Figures = dict[str, Any]


def compare_first_clicks(folder: Path, rounds: int) -> Figures:
    """Exports the network in fp32 and bf16, and measures it.

    Args:
        folder: for the checkpoint, which is kept between runs, and for the repository, which is exported anew.
        rounds: new images for each profile.

    Raises:
        BenchmarkError: it could not be exported, as on a CPU that is slow in bf16.
    """
    checkpoint = folder / "sam3.pt"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, FULL_SIZE)
    return measure(exported(checkpoint, folder / "export", "clicks", "onnx,torchscript-bf16"), rounds)


def measure(repository: Path, rounds: int) -> Figures:
    """The median milliseconds of a first click with each profile, which take turns, and the ratio bf16 to fp32."""
    with ExitStack() as stack:
        ways: dict[str, tuple[Callable[[], object], int]] = {}
        for profile in (FP32, BF16):
            log = stack.enter_context((repository.parent / f"{profile}.log").open("w"))
            server = stack.enter_context(TritonServer(repository, log, profile, Ports(*free_ports(3))))
            client = stack.enter_context(Sam3Client(server.grpc_url, timeout_s=_TIMEOUT_S))
            # One more than rounds, to warm up.
            ways[profile] = partial(_click, client, iter(clicks_on(fresh_images(rounds + 1), 1))), 1
        milliseconds = {name: statistics.median(values) for name, values in in_turns(ways, rounds).items()}
    return {
        "instructions": bf16_instructions(),
        "milliseconds": milliseconds,
        "ratio": milliseconds[BF16] / milliseconds[FP32],
    }


def _click(client: Sam3Client, clicks: Iterator[Click]) -> None:
    click = next(clicks)
    client.predict(click.image, points=[click.point], logits=False)


def markdown(figures: Figures) -> str:
    """A table of both profiles, and whether the ratio keeps to the target."""
    times = figures["milliseconds"]
    rows = [(f"`{name}`", f"{value:.0f}", f"x {value / times[FP32]:.2f}") for name, value in times.items()]
    instructions = figures["instructions"]
    if instructions is None:
        verdict = "This CPU has no instructions for bf16: the target does not apply"
    else:
        verdict = f"This CPU has {instructions}: {'kept' if figures['ratio'] <= TARGET else 'not kept'}"
    page = table(("profile", "median ms of a first click", "to fp32"), rows)
    return f"# First click in bf16\n\n{page}\n\n{verdict} (at most x {TARGET}).\n"
