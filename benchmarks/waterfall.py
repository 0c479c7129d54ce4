"""Where the time of a warm click goes, from Triton's traces and the caller's timestamps, which share one clock."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
from sam3_triton.wire import MODEL

from benchmarks.limit import Limit
from benchmarks.results import BenchmarkError, Segment

# In the order in which a click runs them.
STEPS = ("sam3_embedding_cache", "sam3_mask_decoder", "sam3_mask_postprocess")
_FILE = "trace.json"
# Triton writes a trace's file a moment after the answer.
_SETTLE_S = 0.5

Timestamps = dict[str, int]
Trace = dict[str, Timestamps]


def flags(folder: Path) -> tuple[str, ...]:
    """Flags that let a `tritonserver` on this machine write traces into a folder when tracing is turned on later."""
    return f"--trace-config=triton,file={folder / _FILE}", "--trace-config=level=OFF"


def of_server(
    server: triton.InferenceServerClient, folder: Path, clicks: Iterable[Callable[[], object]]
) -> list[Segment]:
    """The mean `segments` of warm clicks over gRPC, made one after the other.

    Args:
        folder: as given to `flags` when the server was started.

    Raises:
        BenchmarkError: Triton did not trace each click.
    """
    on = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "log_frequency": "1"}
    server.update_trace_settings(settings=on)
    begun, ended = [], []
    for click in clicks:
        begun.append(time.monotonic_ns())
        click()
        ended.append(time.monotonic_ns())
    time.sleep(_SETTLE_S)
    server.update_trace_settings(settings={"trace_level": ["OFF"]})
    traces = [read(json.loads(path.read_text())) for path in folder.glob(f"{_FILE}.*")]
    traces = sorted(traces, key=lambda trace: trace[MODEL]["REQUEST_START"])
    if len(traces) != len(begun):
        raise BenchmarkError(f"Triton traced {len(traces)} of {len(begun)} clicks")
    found = [segments(*one) for one in zip(traces, begun, ended, strict=True)]
    return [
        Segment(parts[0].step, parts[0].kind, statistics.fmean(part.milliseconds for part in parts))
        for parts in zip(*found, strict=True)
    ]


def read(entries: list[dict[str, Any]]) -> Trace:
    """Reads Triton's trace of one click: nanoseconds by model and by name."""
    names: dict[int, str] = {}
    times: dict[int, Timestamps] = {}
    for entry in entries:
        if "model_name" in entry:
            names[entry["id"]] = entry["model_name"]
        for stamp in entry.get("timestamps", ()):
            times.setdefault(entry["id"], {})[stamp["name"]] = stamp["ns"]
    return {name: times[number] for number, name in names.items()}


def segments(trace: Mapping[str, Timestamps], begun: int, ended: int) -> list[Segment]:
    """Splits a click where it passes from one program to the next; the parts add up to the time that the caller waits.

    `client` is the time until Triton has read the request, and from the sent answer until the caller has unpacked it,
    the loopback included. `network` is the time in Triton's gRPC endpoint. For each model: `queue` until Triton calls
    its process; `copies`, Triton's own into that process; `compute` until it has answered, copies inside its process
    included; `ensemble`, from its answer to the next model. A model's work after its answer delays nobody and is not
    counted.
    """
    whole = trace[MODEL]
    parts = [("caller", "client", begun, whole["GRPC_WAITREAD_END"])]
    parts.append(("Triton", "network", whole["GRPC_WAITREAD_END"], trace[STEPS[0]]["REQUEST_START"]))
    ends = [trace[model]["REQUEST_START"] for model in STEPS[1:]] + [whole["GRPC_SEND_START"]]
    for model, end in zip(STEPS, ends, strict=True):
        one = trace[model]
        # A model may answer before its call returns; then its end is the start of the next one.
        answered = min(one["COMPUTE_OUTPUT_START"], end)
        parts += [
            (model, "queue", one["REQUEST_START"], one["COMPUTE_START"]),
            (model, "copies", one["COMPUTE_START"], one["COMPUTE_INPUT_END"]),
            (model, "compute", one["COMPUTE_INPUT_END"], answered),
            (model, "ensemble", answered, end),
        ]
    # Triton may record this after the caller has the answer.
    sent = min(whole["GRPC_SEND_END"], ended)
    parts.append(("Triton", "network", whole["GRPC_SEND_START"], sent))
    parts.append(("caller", "client", sent, ended))
    return [Segment(step, kind, (end - start) / 1e6) for step, kind, start, end in parts]


def of_limit(limit: Limit) -> list[Segment]:
    """The median times of the steps of a warm click in one process."""
    names = ("prompt", "decoder", "holes and resize", "PNG")
    return [Segment(name, "compute", 1000 * statistics.median(limit.steps[name])) for name in names]
