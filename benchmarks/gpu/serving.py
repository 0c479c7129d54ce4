"""The profile for PyTorch on a GPU: export with its gate; then first and warm clicks and load on the real server."""

from __future__ import annotations

import importlib
import importlib.util
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu.context import Context, Figures
from benchmarks.gpu.messages import SkippedError
from benchmarks.repositories import bare_repository

if TYPE_CHECKING:
    from sam3_triton import Sam3Client

    from benchmarks.clicks import Click

_IMAGES, _CLICKS_EACH = 8, 4
CALLERS = (8, 16, 32)
_NEEDED = ("pytriton", "tritonclient", "grpc", "google.protobuf", "cv2", "isal", "psutil", "PIL", "httpx")
_TIMEOUT_S = 120
_REPOSITORY = "model_repository"
_CURRENT = Path("sam3") / "exports" / "current"


def exporting(context: Context, save: Callable[[Figures], None]) -> None:
    """Exports the half for clicks by the exporter's own code, all checks included.

    Not in the process that serves: there, numpy 1.26 takes the place of the one that transformers was installed with.
    """
    from sam3_export import exporter
    from sam3_export.progress import Steps

    format_name = "torchscript" if context.small else "torchscript-fp16"
    figures: Figures = {"format": format_name}
    repository = bare_repository(context.shared)
    checkpoint = context.checkpoint
    clicks = replace(checkpoint, concepts=None, architecture=replace(checkpoint.architecture, concepts=None))
    clicks.model.cpu()  # where the exporter computes its references
    started = time.monotonic()
    exporter.export(clicks, repository, [format_name], Steps())
    clicks.model.to(context.device)
    report = json.loads((repository / _CURRENT / "export.json").read_text())
    figures["export_seconds"] = time.monotonic() - started
    figures["gate"] = {
        name: max(max(case.values()) for case in entry["differences"].values())
        for name, entry in report["artifacts"].items()
    }
    save(figures)


def serving(context: Context, save: Callable[[Figures], None]) -> None:
    """Serves the export, and clicks.

    Raises:
        SkippedError: there is no export, a package is missing, or this Python cannot run inside Triton.
    """
    repository = context.shared / _REPOSITORY
    if not (repository / _CURRENT).is_dir():
        raise SkippedError("there is no export to serve")
    _check_packages(context)
    profile = "torchscript" if context.small else "torchscript-gpu"
    _serve(context, repository, profile, {"profile": profile}, save)


def _check_packages(context: Context) -> None:
    needed = [*_NEEDED, *([] if context.small else ["cupy"])]
    missing = [name for name in needed if not _is_there(name)]
    if missing:
        raise SkippedError(f"not installed, and not among the packages that were brought along: {', '.join(missing)}")
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise SkippedError(f"Triton 2.51's Python backend crashes with numpy {np.__version__}; bring numpy 1.26 along")
    if not context.small:
        try:
            cupy: Any = importlib.import_module("cupy")
        except ImportError as error:
            last = str(error).strip().splitlines()[-1]
            raise SkippedError(f"CuPy cannot be imported with numpy {np.__version__} ({last})") from error
        cupy.asarray(np.zeros(1)).copy()  # what the cache does with features


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def _serve(context: Context, repository: Path, profile: str, figures: Figures, save: Callable[[Figures], None]) -> None:
    from sam3_server import Ports, ServerError, TritonServer
    from sam3_triton import Sam3Client

    from benchmarks.clicks import clicks_on, fresh_images
    from benchmarks.services import free_ports

    with ExitStack() as stack:
        server = TritonServer(repository, sys.stderr, profile, Ports(*free_ports(3)))
        started = time.monotonic()
        try:
            server.start()
        except ServerError as error:
            if "libpython" in str(error) or "Python backend for Python" in str(error):
                raise SkippedError(str(error)) from error
            raise
        stack.callback(server.stop, grace_s=0)
        figures["ready_seconds"] = time.monotonic() - started
        save(figures)
        client = stack.enter_context(Sam3Client(server.grpc_url, timeout_s=_TIMEOUT_S))
        images = 2 if context.small else _IMAGES
        clicks = clicks_on(fresh_images(images), _CLICKS_EACH)
        first = [_milliseconds(partial(_click, client, click)) for click in clicks[:images]]
        figures["first_click_milliseconds"] = {"median": statistics.median(first), "count": len(first)}
        rounds = 1 if context.small else 20
        warm = [_milliseconds(partial(_warm_click, client, click)) for click in clicks * rounds]
        figures["warm_click_milliseconds"] = {
            "median": statistics.median(warm),
            "p90": float(np.percentile(warm, 90)),
            "count": len(warm),
        }
        save(figures)
        figures["golden_clicks"] = _golden(server.grpc_url, repository)
        save(figures)
        _load(context, server.grpc_url, clicks, figures, save)


def _click(client: Sam3Client, click: Click) -> None:
    client.predict(click.image, points=[click.point], logits=False)


def _warm_click(client: Sam3Client, click: Click) -> None:
    if not client.predict(image_id=click.image_id, points=[click.point], logits=False).cache_hit:
        raise RuntimeError("a click was not warm: its image is no longer cached")


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _golden(url: str, repository: Path) -> str:
    from sam3_triton.doctor.golden import check_golden
    from sam3_triton.doctor.inspector import Inspector
    from sam3_triton.doctor.server import TIMEOUT_S, Configs
    from sam3_triton.wire import Address

    with Inspector(Address.of(url), TIMEOUT_S) as inspector:
        finding = check_golden(url, Configs.of(inspector), repository)
    return f"{finding.mark.name}: {finding.text}"


def _load(context: Context, url: str, clicks: list[Click], figures: Figures, save: Callable[[Figures], None]) -> None:
    """Warm clicks a second: with masks as PNG, and with logits alone, which need no postprocessing of masks."""
    from benchmarks.gpu import callers

    figures["load"] = rows = Figures()
    for answer, outputs in (("masks", ("MASKS", "SCORES")), ("scores", ("SCORES",))):
        for count in (2,) if context.small else CALLERS:
            load = callers.load_of(url, clicks, outputs, count, 0.5 if context.small else 4.0)
            with _pcie() as traffic:
                latency = callers.measure(load)
            row = asdict(latency)
            if traffic:
                row["pcie_bytes_a_click"] = statistics.mean(traffic) / latency.throughput
            rows[f"{count} callers, {answer}"] = row
            save(figures)


@contextmanager
def _pcie() -> Iterator[list[float]]:
    """Samples the GPU's traffic over PCIe, in bytes a second both ways; stays empty if it cannot be read."""
    found: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        with suppress(Exception):  # no NVML, or a virtual machine that hides the counters
            pynvml: Any = importlib.import_module("pynvml")
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not stop.wait(0.05):
                kilobytes = [pynvml.nvmlDeviceGetPcieThroughput(handle, way) for way in (0, 1)]
                found.append(1000.0 * sum(kilobytes))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(5)
