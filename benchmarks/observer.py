"""What a Triton did, from its own statistics; and how much memory processes take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import psutil
import tritonclient.grpc as triton

ENCODER = "sam3_image_encoder"
_SAMPLE_S = 0.25


@dataclass(frozen=True)
class Counts:
    """Of one model: requests, images or prompts run, and nanoseconds, summed over the requests."""

    requests: int = 0
    failures: int = 0
    inferences: int = 0
    total_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))


Statistics = dict[str, Counts]


def statistics(client: triton.InferenceServerClient) -> Statistics:
    """What Triton has counted since its start, by model; it counts a request a moment after it was answered."""
    found = {}
    for model in client.get_inference_statistics().model_stats:
        stats = model.inference_stats
        found[model.name] = Counts(
            requests=stats.success.count,
            failures=stats.fail.count,
            inferences=model.inference_count,
            total_ns=stats.success.ns,
            queue_ns=stats.queue.ns,
            input_ns=stats.compute_input.ns,
            infer_ns=stats.compute_infer.ns,
            output_ns=stats.compute_output.ns,
        )
    return found


def family(pid: int) -> tuple[psutil.Process, ...]:
    """A process and all those that it has started."""
    process = psutil.Process(pid)
    return process, *process.children(recursive=True)


@contextmanager
def peak_memory(processes: Sequence[psutil.Process]) -> Iterator[Callable[[], float | None]]:
    """Samples the resident memory of processes together; the value tells its peak in MiB, None without processes."""
    if not processes:
        yield lambda: None
        return
    stopping = threading.Event()
    peak = 0.0

    def sample() -> None:
        nonlocal peak
        while True:
            peak = max(peak, sum(process.memory_info().rss for process in processes) / 2**20)
            if stopping.wait(_SAMPLE_S):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield lambda: peak
    finally:
        stopping.set()
        sampler.join()
