"""What the embedding cache does under load, on this machine: `python benchmarks/cache_load.py --help`.

Starts servers over copies of a repository with an exported checkpoint, so nothing that is there is touched.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from sam3_demo.held_out import held_out
from sam3_server import Ports, TritonServer
from sam3_server.model_processes import model_processes
from sam3_triton import Sam3Client, Sam3Error

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it does not find its own package

from benchmarks.services import repository_copy, serving

PORTS = Ports(8110, 8111, 8112)
PYTHON_MODELS = (
    "sam3_embedding_cache",
    "sam3_preprocess",
    "sam3_mask_postprocess",
    # These two are Python models with the stand-in backends only.
    "sam3_image_encoder",
    "sam3_mask_decoder",
)
# Clicks that share a batch differ in the last bits from those that do not; logits run from -32 to 32.
SAME_LOGITS = 1e-2
Figures = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """An image file, a click (x, y) inside an object of it, and, once asked for, the right answer."""

    data: bytes
    click: tuple[float, float]


def pictures(count: int) -> list[Picture]:
    """Scenes that the demonstration model was never trained on."""
    made = []
    for scene, targets in itertools.islice(held_out("plain", 2 * count), count):  # some scenes have no object
        inside = np.argwhere(targets[0])
        y, x = inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()]
        buffer = BytesIO()
        Image.fromarray(scene.image).save(buffer, "PNG")
        made.append(Picture(buffer.getvalue(), (float(x), float(y))))
    return made


def metrics(server: TritonServer) -> dict[str, float]:
    """The cache's metrics."""
    prefix = "sam3_embedding_cache_"
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(prefix)]
    return {line.split("{")[0].removeprefix(prefix): float(line.split()[-1]) for line in lines}


def shared_images(repository: Path) -> Figures:
    """16 clients click on 4 images from cold, all at one moment."""
    images = pictures(4)
    with serving(repository) as server:
        before = metrics(server)
        start = threading.Barrier(16)

        def click(number: int) -> bool:
            picture = images[number % 4]
            with Sam3Client(server.grpc_url) as client:
                start.wait()
                return client.predict(picture.data, points=[picture.click]).cache_hit

        with ThreadPoolExecutor(16) as pool:
            hits = sum(pool.map(click, range(16)))
        time.sleep(0.5)  # Triton publishes what it counts a moment later
        change = {name: value - before[name] for name, value in metrics(server).items()}
    return {
        "encodes": change["encodes_total"],
        "answers_that_say_hit": hits,
        "hits": change["hits_total"],
        "misses": change["misses_total"],
        "coalesced": change["coalesced_total"],
        "bytes": change["bytes"],
        "entries": change["entries"],
    }


def churn(repository: Path, clicks: int = 2000, images: int = 64, room: int = 8, callers: int = 4) -> Figures:
    """Clicks on more images than there is room for: are all answers right, and does memory stay where it is?"""
    made = pictures(images)
    with serving(repository) as server, Sam3Client(server.grpc_url) as client:
        before = metrics(server)
        client.predict(made[0].data, points=[made[0].click])
        size = int(metrics(server)["bytes"] - before["bytes"])
    with (
        serving(repository, sam3_embedding_cache={"cache_bytes": str(room * size)}) as server,
        Sam3Client(server.grpc_url) as client,
    ):
        references = [client.predict(picture.data, points=[picture.click]) for picture in made]
        memory: list[int] = []
        most_bytes = 0.0
        worst = 0.0
        errors: list[str] = []
        wrong = hits = 0
        lock = threading.Lock()
        members = [psutil.Process(server.pid), *(one.process for one in model_processes(server.pid))]
        started = time.monotonic()

        def click(number: int) -> None:
            nonlocal worst, wrong, hits, most_bytes
            index = random.Random(number).randrange(images)
            try:
                answer = client.predict(made[index].data, points=[made[index].click])
            except Sam3Error as error:
                errors.append(str(error))
                return
            difference = float(np.abs(answer.low_res_logits - references[index].low_res_logits).max())
            with lock:
                worst = max(worst, difference)
                wrong += difference > SAME_LOGITS
                hits += answer.cache_hit
            if number % 20 == 0:
                total, now = sum(member.memory_info().rss for member in members), metrics(server)["bytes"]
                with lock:
                    memory.append(total)
                    most_bytes = max(most_bytes, now)
                _progress(f"churn: {number} of {clicks} clicks, {total / 2**20:.0f} MiB resident")

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(click, range(clicks)))
        seconds = time.monotonic() - started
        evictions = metrics(server)["evictions_total"]
    later = memory[len(memory) // 2 :]
    return {
        "clicks": clicks,
        "images": images,
        "room_for": room,
        "callers": callers,
        "seconds": round(seconds, 1),
        "errors": len(errors),
        "first_errors": errors[:3],
        "wrong_answers": wrong,
        "largest_logit_difference": worst,
        "hit_ratio": round(hits / clicks, 3),
        "evictions": evictions,
        "budget_bytes": room * size,
        "most_bytes": most_bytes,
        "resident_mib_in_the_second_half": [round(min(later) / 2**20, 1), round(max(later) / 2**20, 1)],
        "spread_of_resident_memory": round((max(later) - min(later)) / statistics.mean(later), 4),
    }


def warm_clicks(repository: Path, rounds: int = 6, clicks: int = 200, missing: int = 4) -> Figures:
    """Warm clicks with and without misses in flight, in turns.

    The question is whether hits wait for misses, not whether two programs share a core: the encoder, the preprocessing
    and those who miss have the last core for themselves, all else the others; both networks run one thread.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    warm_cores, miss_cores = cores[:-1], cores[-1:]
    picture = pictures(1)[0]
    one_thread = {"intra_op_thread_count": "1"}
    with (
        serving(repository, sam3_image_encoder=one_thread, sam3_mask_decoder=one_thread) as server,
        Sam3Client(server.grpc_url) as client,
    ):
        _pin(psutil.Process(server.pid), warm_cores)
        for one in model_processes(server.pid):
            _pin(one.process, miss_cores if one.model in ("sam3_image_encoder", "sam3_preprocess") else warm_cores)
        os.sched_setaffinity(0, warm_cores)
        image_id = client.set_image(picture.data)

        def measure() -> list[float]:
            taken = []
            for _ in range(clicks):
                started = time.perf_counter()
                assert client.predict(image_id=image_id, points=[picture.click]).cache_hit
                taken.append(1000 * (time.perf_counter() - started))
            return taken

        measure()
        quiet: list[float] = []
        busy: list[float] = []
        encodes = 0.0
        for number in range(rounds):
            quiet += measure()
            before = metrics(server)
            with _missing(server.grpc_url, missing, miss_cores):
                busy += measure()
            encodes += metrics(server)["encodes_total"] - before["encodes_total"]
            _progress(f"warm clicks: round {number + 1} of {rounds}")
        os.sched_setaffinity(0, cores)
    figures: Figures = {"clicks_each": len(quiet), "callers_that_miss": missing, "encodes_meanwhile": encodes}
    for name, values in (("quiet", quiet), ("with_misses", busy)):
        figures[name] = {"median_ms": round(statistics.median(values), 2), "p99_ms": round(_p99(values), 2)}
    figures["ratio_of_medians"] = round(statistics.median(busy) / statistics.median(quiet), 3)
    figures["ratio_of_p99"] = round(_p99(busy) / _p99(quiet), 3)
    return figures


@contextmanager
def _missing(url: str, callers: int, cores: list[int]) -> Iterator[None]:
    """Has a process of its own miss without a break; starts once the first misses are in flight."""
    context = multiprocessing.get_context("spawn")
    started, stopping = context.Event(), context.Event()
    process = context.Process(target=_miss, args=(url, callers, cores, started, stopping))
    process.start()
    started.wait()
    try:
        yield
    finally:
        stopping.set()
        process.join()


def _miss(url: str, callers: int, cores: list[int], started: Any, stopping: Any) -> None:
    os.sched_setaffinity(0, cores)
    pixels = np.zeros((120, 160, 3), np.uint8)

    def work(worker: int) -> None:
        with Sam3Client(url) as client:
            while not stopping.is_set():
                image = pixels.copy()
                image[:8, :8] = np.frombuffer(os.urandom(192), np.uint8).reshape(8, 8, 3)
                client.set_image(image)
                started.set()

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, range(callers)))


def kills(repository: Path) -> Figures:
    """Kills the process of each Python model under load; how long until clicks are answered again?"""
    images = pictures(3)
    figures: Figures = {}
    answers: list[tuple[float, str]] = []
    stopping = threading.Event()
    with (
        repository_copy(repository) as copy,
        _supervised(copy) as (launcher, said),
        Sam3Client(f"127.0.0.1:{PORTS.grpc}", timeout_s=60) as client,
    ):
        references = [client.predict(picture.data, points=[picture.click]) for picture in images]

        def work(worker: int) -> None:
            number = worker
            while not stopping.is_set():
                number += 1
                picture, reference = images[number % 3], references[number % 3]
                try:
                    answer = client.predict(picture.data, points=[picture.click])
                    difference = np.abs(answer.low_res_logits - reference.low_res_logits).max()
                    outcome = "right" if difference < SAME_LOGITS else "wrong"
                except Sam3Error as error:
                    outcome = f"{type(error).__name__}: {error}"
                    time.sleep(0.02)
                answers.append((time.monotonic(), outcome))

        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(work, worker) for worker in range(3)]
            try:
                for model in PYTHON_MODELS:
                    time.sleep(1)
                    figures[model] = _kill(model, launcher, said, answers)
                    _progress(f"kill {model}: {figures[model]}")
            finally:
                stopping.set()
            for future in futures:
                future.result()
    figures["errors"] = sorted({outcome for _, outcome in answers if outcome not in ("right", "wrong")})
    figures["said"] = [line.strip() for line in said]
    return figures


def _kill(model: str, launcher: psutil.Process, said: list[str], answers: list[tuple[float, str]]) -> Figures:
    triton = next(child for child in launcher.children() if child.name() == "tritonserver")
    victim = next(one.process for one in model_processes(triton.pid) if one.model == model)
    told, killed = len(said), time.monotonic()
    victim.kill()
    while not any("serving again" in line for line in said[told:]):
        time.sleep(0.1)
        if time.monotonic() - killed > 120:
            raise SystemExit(f"{model} did not come back: {said[told:]}")
    time.sleep(1)
    outcomes = [(moment - killed, outcome) for moment, outcome in answers if moment >= killed]
    failed = [moment for moment, outcome in outcomes if outcome not in ("right", "wrong")]
    return {
        "errors_until_s": round(max(failed), 1) if failed else 0,
        "errors": len(failed),
        "wrong_answers": sum(outcome == "wrong" for _, outcome in outcomes),
    }


@contextmanager
def _supervised(repository: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """A `sam3-serve` in a process of its own, and what it says of faults and restarts."""
    flags = [f"--{name}-port={getattr(PORTS, name)}" for name in ("http", "grpc", "metrics")]
    command = [sys.executable, "-m", "sam3_server.cli", f"--repository={repository}", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    assert process.stdout is not None
    log = process.stderr
    assert log is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(line for line in log if "sam3-serve:" in line), daemon=True)
    reader.start()
    try:
        if not process.stdout.readline():
            raise SystemExit(f"sam3-serve did not start: {said}")
        yield psutil.Process(process.pid), said
    finally:
        process.terminate()
        process.wait()


def _pin(process: psutil.Process, cores: list[int]) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


SCENARIOS: dict[str, Callable[[Path], Figures]] = {
    "shared_images": shared_images,
    "warm_clicks": warm_clicks,
    "churn": churn,
    "kills": kills,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="JSON", help="figures are added to this file")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    for name in options.scenarios or SCENARIOS:
        print(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", file=sys.stderr, flush=True)
        figures = SCENARIOS[name](options.repository)
        print(json.dumps({name: figures}, indent=2), flush=True)
        if options.output:
            known = json.loads(options.output.read_text()) if options.output.exists() else {}
            options.output.write_text(json.dumps({**known, name: figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
