"""Where the time of a new image goes before the encoder: decode and resize on one core, against Pillow alone."""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

from benchmarks.results import BenchmarkError

Figures = dict[str, dict[str, float]]
Steps = tuple[float, float]
"""CPU seconds of decode and resize."""

ROUNDS = 15
SIDE = 1008  # of SAM 3
OURS, PILLOW = "sam3_preprocess", "Pillow alone"


def photos() -> dict[str, bytes]:
    """Files of real photos, enlarged, with the noise of a camera's sensor."""

    def photo(width: int, height: int) -> Image.Image:
        pixels = np.asarray(
            Image.fromarray(data.coffee()).resize((width, height), Image.Resampling.LANCZOS), np.float32
        )
        noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
        return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))

    def file(image: Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    large, small = photo(4032, 3024), photo(1600, 1200)
    return {
        "JPEG, 12 megapixels": file(large, "JPEG", quality=90),
        "JPEG, 12 megapixels, 4:4:4": file(large, "JPEG", quality=90, subsampling=0),
        "JPEG, 12 megapixels, progressive": file(large, "JPEG", quality=90, progressive=True),
        "JPEG, 12 megapixels, grey": file(large.convert("L"), "JPEG", quality=90),
        "JPEG, 2 megapixels": file(small, "JPEG", quality=90),
        "PNG, 2 megapixels": file(small, "PNG"),
    }


def measure_cold(rounds: int = ROUNDS) -> Figures:
    """Median CPU milliseconds of each step, by picture and way.

    Each way has a process of its own on the same core, with the memory settings that it is served with, and takes its
    turn. CPU time leaves out what other programs take.

    Raises:
        BenchmarkError: one of the processes died.
    """
    pictures = photos()
    figures: Figures = {}
    core = min(os.sched_getaffinity(0))
    with _Worker(_ours, core) as ours, _Worker(_pillow, core) as pillow:
        for name, picture in pictures.items():
            times: dict[str, list[Steps]] = {OURS: [], PILLOW: []}
            for number in range(rounds + 1):
                for way, worker in ((OURS, ours), (PILLOW, pillow)):
                    steps = worker.run(picture)
                    if number:  # a first round warms up
                        times[way].append(steps)
            figures[name] = {}
            for way, taken in times.items():
                figures[name][f"{way}: decode"] = _median([decode for decode, _ in taken])
                figures[name][f"{way}: resize"] = _median([resize for _, resize in taken])
                figures[name][way] = _median([decode + resize for decode, resize in taken])
            print(f"  {name}", file=sys.stderr, flush=True)
    return figures


def markdown(figures: Figures) -> str:
    """The figures as a table."""
    lines = [
        "# Before the encoder",
        "",
        "Milliseconds of CPU time for an image, medians, in turns on one core:",
        "",
        f"| picture | decode | resize | both | {PILLOW}: decode | resize | both | images a second and core |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in figures.items():
        cells = [f"{one[f'{way}{part}']:.1f}" for way in (OURS, PILLOW) for part in (": decode", ": resize", "")]
        lines.append(f"| {name} | {' | '.join(cells)} | x {one[PILLOW] / one[OURS]:.2f} |")
    return "\n".join(lines) + "\n"


def _median(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds)


class _Worker:
    """A process that prepares images one way."""

    def __init__(self, make: Callable[[], Callable[[bytes], Steps]], core: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, self._other_end = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(make, self._other_end, core), daemon=True)

    def __enter__(self) -> _Worker:
        self._process.start()
        self._other_end.close()  # otherwise `run` would wait for ever for a process that has died
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._pipe.send(None)
        self._process.join()

    def run(self, picture: bytes) -> Steps:
        try:
            self._pipe.send(picture)
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise BenchmarkError("a process that prepares images has died; its error is above") from error


def _serve(make: Callable[[], Callable[[bytes], Steps]], pipe: Connection, core: int) -> None:
    os.sched_setaffinity(0, {core})
    prepare = make()
    while (picture := pipe.recv()) is not None:
        pipe.send(prepare(picture))


def _ours() -> Callable[[bytes], Steps]:
    from heap import KEPT_BYTES, keep_freed_memory
    from image_preprocess import SCRATCH_BYTES, decode, to_network_pixels

    keep_freed_memory(KEPT_BYTES)
    scratch = np.empty(SCRATCH_BYTES, np.uint8)

    def prepare(picture: bytes) -> Steps:
        started = time.process_time()
        pixels = decode(picture, scratch=scratch)
        decoded = time.process_time()
        to_network_pixels(pixels, SIDE)
        return decoded - started, time.process_time() - decoded

    return prepare


def _pillow() -> Callable[[bytes], Steps]:
    def prepare(picture: bytes) -> Steps:
        started = time.process_time()
        with Image.open(io.BytesIO(picture)) as image:
            pixels = image.convert("RGB")
        decoded = time.process_time()
        across = pixels.resize((SIDE, pixels.height), Image.Resampling.BILINEAR)
        np.asarray(across.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        return decoded - started, time.process_time() - decoded

    return prepare
