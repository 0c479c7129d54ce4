"""Many callers of one server at a time, in processes of their own: one Python cannot send 500 clicks a second."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from sam3_triton.wire import MODEL, Call, tensors
from tritonclient import grpc

from benchmarks.clicks import Click
from benchmarks.results import Latency

# Callers that one process can carry.
_CALLERS_EACH = 4


@dataclass(frozen=True)
class Load:
    """Callers that click by id on cached images, each as soon as it has its answer; answers are not decoded."""

    url: str
    clicks: tuple[tuple[str, tuple[int, int]], ...]  # ids of images, and places
    outputs: tuple[str, ...]
    callers: int
    warm_up_s: float
    seconds: float


def load_of(url: str, clicks: list[Click], outputs: tuple[str, ...], callers: int, seconds: float) -> Load:
    """A load with a warm-up of a third of its time."""
    places = tuple((click.image_id, click.point) for click in clicks)
    return Load(url, places, outputs, callers, seconds / 3, seconds)


def measure(load: Load) -> Latency:
    """Latencies, and answers a second, of all callers together."""
    processes = max(1, min(load.callers // _CALLERS_EACH, (os.cpu_count() or 1) // 2))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        list(pool.map(_ready, range(processes)))  # imports take seconds
        begin = time.time() + 0.5
        shares = [load.callers * n // processes for n in range(processes + 1)]
        each = [pool.submit(_clicks, load, shares[n + 1] - shares[n], begin) for n in range(processes)]
        seconds = [one for process in each for one in process.result()]
    return Latency.of(seconds, load.seconds)


def _ready(number: int) -> int:
    time.sleep(0.2)  # so that each process gets one
    return number


def _clicks(load: Load, callers: int, begin: float) -> list[float]:
    """The seconds of each click of some callers that was answered between the end of the warm-up and that of the load.

    Args:
        begin: when to begin, in seconds since the epoch.
    """
    client = grpc.InferenceServerClient(load.url)
    requests = [
        tensors(
            grpc,
            Call(
                {
                    "CACHED_IMAGE_ID": np.array([image.encode()], np.object_),
                    "POINTS": np.array([[point]], np.float32),
                },
                load.outputs,
            ),
        )
        for image, point in load.clicks
    ]
    time.sleep(max(0.0, begin - time.time()))
    counted, end = begin + load.warm_up_s, begin + load.warm_up_s + load.seconds

    def caller(number: int) -> list[float]:
        found: list[float] = []
        for inputs, outputs in itertools.islice(itertools.cycle(requests), number, None):
            before = time.time()
            if before >= end:
                return found
            client.infer(MODEL, inputs, outputs=outputs)
            if counted <= time.time() < end:
                found.append(time.time() - before)
        return found

    with ThreadPoolExecutor(callers) as threads:
        seconds = [one for each in threads.map(caller, range(callers)) for one in each]
    client.close()
    return seconds
