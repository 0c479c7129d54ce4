"""The first click on an image at SAM 3's own size with random weights: bf16 and int8 against fp32, on this CPU."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sam3_server import Ports, TritonServer
from sam3_server.model_processes import model_processes
from sam3_triton import Sam3Client
from sam3_triton.cpu import bf16_instructions, int8_instructions

from benchmarks.clicks import Click, clicks_on, fresh_images
from benchmarks.full_size import FULL_SIZE, write_checkpoint
from benchmarks.limit import ENCODER
from benchmarks.report import table
from benchmarks.repositories import exported
from benchmarks.services import free_ports
from benchmarks.turns import in_turns

FP32, BF16, INT8 = "cpu", "cpu-bf16", "cpu-int8"
# The format that each profile needs besides `onnx`.
_FORMATS = {BF16: "torchscript-bf16", INT8: "onnx-int8"}
# What bf16 is for, on a CPU with instructions for it.
TARGET = 0.65
ROUNDS = 5
# Most of a minute on two cores, several times that for a first image.
_TIMEOUT_S = 900
Figures = dict[str, Any]


def profiles_here() -> tuple[str, ...]:
    """fp32, and the precisions that this CPU has instructions for."""
    instructions = {BF16: bf16_instructions(), INT8: int8_instructions()}
    return FP32, *(profile for profile, found in instructions.items() if found)


def compare_first_clicks(folder: Path, rounds: int) -> Figures:
    """Exports the network in fp32 and what this CPU has instructions for, and measures it.

    Args:
        folder: for the checkpoint, which is kept between runs, and for the repository, which is exported anew.
        rounds: new images for each profile.

    Raises:
        BenchmarkError: it could not be exported.
    """
    checkpoint = folder / "sam3.pt"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, FULL_SIZE)
    profiles = profiles_here()
    formats = ",".join(["onnx", *(_FORMATS[profile] for profile in profiles if profile in _FORMATS)])
    return measure(exported(checkpoint, folder / "export", "clicks", formats), profiles, rounds)


def measure(repository: Path, profiles: Sequence[str], rounds: int) -> Figures:
    """The median milliseconds of a first click with each profile, which take turns, and the ratios to fp32.

    Also the most memory that each image encoder's process took, while it loaded its file or encoded.
    """
    servers = {}
    with ExitStack() as stack:
        ways: dict[str, tuple[Callable[[], object], int]] = {}
        for profile in profiles:
            log = stack.enter_context((repository.parent / f"{profile}.log").open("w"))
            servers[profile] = stack.enter_context(TritonServer(repository, log, profile, Ports(*free_ports(3))))
            client = stack.enter_context(Sam3Client(servers[profile].grpc_url, timeout_s=_TIMEOUT_S))
            # One more than rounds, to warm up.
            ways[profile] = partial(_click, client, iter(clicks_on(fresh_images(rounds + 1), 1))), 1
        milliseconds = {name: statistics.median(values) for name, values in in_turns(ways, rounds).items()}
        peaks = {name: encoder_peak_bytes(server) for name, server in servers.items()}
    return {
        "instructions": {BF16: bf16_instructions(), INT8: int8_instructions()},
        "milliseconds": milliseconds,
        "ratios": {name: value / milliseconds[FP32] for name, value in milliseconds.items()},
        "encoder_peak_bytes": peaks,
    }


def encoder_peak_bytes(server: TritonServer) -> int | None:
    """The most memory that the image encoder's process has taken so far; None in a native backend, without its own."""
    peaks = []
    for one in model_processes(server.pid):
        if one.model == ENCODER:
            status = Path(f"/proc/{one.process.pid}/status").read_text()
            peaks += [1024 * int(kibibytes) for kibibytes in re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)]
    return max(peaks, default=None)


def _click(client: Sam3Client, clicks: Iterator[Click]) -> None:
    click = next(clicks)
    client.predict(click.image, points=[click.point], logits=False)


def markdown(figures: Figures) -> str:
    """A table of the profiles, and whether bf16 keeps to its target."""
    times, ratios, instructions = (figures[name] for name in ("milliseconds", "ratios", "instructions"))
    peaks = figures["encoder_peak_bytes"]
    rows = [
        (
            f"`{name}`",
            instructions.get(name) or "",
            f"{value:.0f}",
            f"x {ratios[name]:.2f}",
            f"{peaks[name] / 1e9:.1f} GB" if peaks[name] else "",
        )
        for name, value in times.items()
    ]
    if BF16 in ratios:
        verdict = f"bf16 takes at most x {TARGET}: {'kept' if ratios[BF16] <= TARGET else 'not kept'}."
    else:
        verdict = "This CPU has no instructions for bf16, so it was not measured."
    page = table(("profile", "instructions", "median ms of a first click", "to fp32", "encoder's memory at most"), rows)
    return f"# First click\n\n{page}\n\n{verdict}\n"
