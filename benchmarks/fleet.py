"""Several replicas behind the proxy of `sam3-serve`, on one machine.

Measures the cache's hit ratio with and without affinity, what a killed and a restarting replica cost callers, the
throughput of several replicas, and what the proxy adds to a click.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import text_format
from sam3_triton import Sam3Client, Sam3Error

from benchmarks.clicks import Click, clicks_on, fresh_images, zipf_trace
from benchmarks.limit import DECODER, ENCODER
from benchmarks.replicas import Fleet, Replica, fleet, inferences, round_robin, tritons
from benchmarks.report import table
from benchmarks.results import BenchmarkError, about_here
from benchmarks.services import repository_copy, serving
from benchmarks.turns import in_turns

Figures = dict[str, Any]
# Callers of the click trace, and of the load while replicas stop and start.
_CALLERS = 4
# Callers for each replica that sleeps. Images are hashed, so at times most callers wait for the same replica; with few
# callers, the others would be idle then.
_CALLERS_EACH = 16
# A mask that differs in more pixels is another object's. Clicks that share a batch differ in few.
_AGREEMENT = 0.999


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes:
        images, clicks: of the trace.
        rooms: images that all caches together have room for; the trace is sent once for each.
        replicas: numbers of replicas.
        load_images: images under the load while replicas stop and start.
        calm_s: seconds of that load before and after an event.
        rounds, block: turns of clicks with and without the proxy, and clicks in each.
        decoder_s, window_s: seconds that the sleeping decoder takes for a click, and seconds of each throughput.
    """

    images: int = 200
    clicks: int = 2000
    rooms: tuple[int, ...] = (300, 102)
    replicas: tuple[int, ...] = (2, 3)
    load_images: int = 40
    calm_s: float = 10.0
    rounds: int = 30
    block: int = 60
    decoder_s: float = 0.1
    window_s: float = 15.0


def measure_fleet(repository: Path, amount: Amount) -> Figures:
    """All figures.

    Raises:
        BenchmarkError: a fleet did not start, or what was measured was not what was meant.
    """
    return {
        "about": about_here(),
        "hit_ratio": hit_ratios(repository, amount),
        "events": events(repository, amount),
        "throughput": throughputs(repository, amount),
        "proxy": proxy_cost(repository, amount),
    }


def hit_ratios(repository: Path, amount: Amount) -> list[Figures]:
    """The trace's hit ratio: one server with all the cache, and replicas that share it, with and without affinity."""
    image_bytes = _image_bytes(repository)
    found = []
    for room in amount.rooms:
        with _with_cache(repository, room * image_bytes) as copy, serving(copy) as server:
            (one,) = tritons(os.getpid())
            ratio = _hit_ratio(server.grpc_url, partial(inferences, [one], ENCODER), amount)
            found.append({"room": room, "replicas": 1, "way": "one server", "hit_ratio": ratio})
        for count in amount.replicas:
            # One more, because sam3-serve's probe is an image, too.
            cache_bytes = (room // count + 1) * image_bytes
            with _with_cache(repository, cache_bytes) as copy, fleet(copy, count) as several:
                replicas = several.replicas()
                encodes = partial(inferences, replicas, ENCODER)
                ratio = _hit_ratio(several.grpc_url, encodes, amount)
                found.append({"room": room, "replicas": count, "way": "by image", "hit_ratio": ratio})
                with round_robin(replicas) as url:
                    ratio = _hit_ratio(url, encodes, amount)
                found.append({"room": room, "replicas": count, "way": "round-robin", "hit_ratio": ratio})
    return found


def _image_bytes(repository: Path) -> int:
    with serving(repository) as server, Sam3Client(server.grpc_url) as client:
        client.set_image(fresh_images(1)[0])
        time.sleep(1)  # the cache publishes ten times a second
        (one,) = tritons(os.getpid())
        return round(one.cache("bytes") / one.cache("entries"))


def _with_cache(repository: Path, cache_bytes: int) -> AbstractContextManager[Path]:
    return repository_copy(repository, sam3_embedding_cache={"cache_bytes": str(cache_bytes)})


def _hit_ratio(url: str, encodes: Callable[[], int], amount: Amount) -> float:
    """The share of the trace's clicks that needed no encode."""
    trace = zipf_trace(fresh_images(amount.images), amount.clicks)
    before = encodes()
    with Sam3Client(url) as client, ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(lambda click: client.predict(click.image, points=[click.point], logits=False), trace))
    ratio = 1 - (encodes() - before) / len(trace)
    _say(f"hit ratio {ratio:.4f}")
    return ratio


@dataclass
class Load:
    """Clicks of several callers until it is told to stop, and what came of them."""

    url: str
    clicks: list[Click]
    references: dict[Click, np.ndarray]
    retries: int | None = None  # None: the client's default
    answered: list[tuple[float, float]] = field(default_factory=list)  # when it was sent, and seconds
    failures: list[tuple[float, str]] = field(default_factory=list)
    wrong: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for number in range(_CALLERS):
            self._threads.append(threading.Thread(target=self._run, args=(number,)))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        settings: dict[str, Any] = {} if self.retries is None else {"retries": self.retries}
        turns = itertools.cycle(self.clicks[number::_CALLERS])
        with Sam3Client(self.url, **settings) as client:
            while not self._stopping.is_set():
                click, started = next(turns), time.monotonic()
                try:
                    answer = client.predict(click.image, points=[click.point], logits=False)
                except Sam3Error as error:
                    self.failures.append((started, str(error)))
                    continue
                self.answered.append((started, time.monotonic() - started))
                same = (answer.masks[0] == self.references[click]).mean()
                self.wrong += int(same < _AGREEMENT)


def events(repository: Path, amount: Amount) -> list[Figures]:
    """What callers see of a Triton that is killed, and of a rolling restart, with and without the client's retries."""
    found = []
    with fleet(repository, max(amount.replicas)) as several:
        clicks = clicks_on(fresh_images(amount.load_images), 1)
        with Sam3Client(several.grpc_url) as client:
            references = {
                click: client.predict(click.image, points=[click.point], logits=False).masks[0] for click in clicks
            }
        if len({mask.tobytes() for mask in references.values()}) < amount.load_images // 2:
            raise BenchmarkError("the images' masks are too much alike to show a mixed-up one")
        for retries in (0, None):
            load = Load(several.grpc_url, clicks, references, retries)
            found.append({"event": "kill -9 of a Triton", "retries": retries} | _killed(several, load, amount))
            load = Load(several.grpc_url, clicks, references, retries)
            found.append({"event": "rolling restart", "retries": retries} | _restarted(several, load, amount))
    return found


def _killed(several: Fleet, load: Load, amount: Amount) -> Figures:
    with load:
        time.sleep(amount.calm_s)
        victim, *others = several.replicas()
        before = sum(replica.inferences(ENCODER) for replica in others)
        killed = time.monotonic()
        victim.process.kill()
        moved = 0
        while (returned := _successor(several, victim)) is None:
            moved = sum(replica.inferences(ENCODER) for replica in others) - before
            time.sleep(0.5)
        back = time.monotonic()
        time.sleep(2 * amount.calm_s)  # the proxy gives it its images back one part after the other
        again = returned.inferences(ENCODER) - 1
    return _outcome(load, killed, back) | {
        "encoded_elsewhere": moved,
        "encoded_again_after_its_return": again,
        "seconds_until_it_is_back": round(back - killed, 1),
    }


def _successor(several: Fleet, victim: Replica) -> Replica | None:
    """The Triton that was started in the victim's place, once it serves."""
    for replica in several.replicas():
        if replica.grpc_url == victim.grpc_url and replica.process.pid != victim.process.pid and replica.serves():
            return replica
    return None


def _restarted(several: Fleet, load: Load, amount: Amount) -> Figures:
    with load:
        time.sleep(amount.calm_s)
        before = {replica.process.pid for replica in several.replicas()}
        started = time.monotonic()
        several.process.send_signal(signal.SIGUSR1)
        while len({one.process.pid for one in several.replicas() if one.serves()} - before) < len(before):
            time.sleep(0.5)
        ended = time.monotonic()
        time.sleep(amount.calm_s)
    return _outcome(load, started, ended) | {"seconds": round(ended - started, 1)}


def _outcome(load: Load, started: float, ended: float) -> Figures:
    during = [seconds for when, seconds in load.answered if started - 1 <= when < ended]
    calm = [seconds for when, seconds in load.answered if when < started - 1]
    figures = {
        "clicks": len(load.answered) + len(load.failures),
        "failed": len(load.failures),
        "reasons": sorted({reason for _, reason in load.failures})[:3],
        "wrong_masks": load.wrong,
        "callers": _CALLERS,
        "median_ms_before": round(1000 * statistics.median(calm), 1),
        "median_ms_during": round(1000 * statistics.median(during), 1),
        "longest_ms_during": round(1000 * max(during), 1),
    }
    _say(f"retries {load.retries}: {figures['failed']} of {figures['clicks']} clicks failed")
    return figures


def throughputs(repository: Path, amount: Amount) -> list[Figures]:
    """Warm clicks a second with a decoder that sleeps, as if it were busy on a GPU of its own."""
    found = []
    with repository_copy(repository) as copy:
        _put_to_sleep(copy, amount.decoder_s)
        for count in (1, *amount.replicas):
            with fleet(copy, count) as several:
                rate = _rate(several.grpc_url, _CALLERS_EACH * count, amount.window_s)
            _say(f"{count} replicas: {rate:.1f} clicks/s")
            found.append({"replicas": count, "clicks_per_second": round(rate, 2)})
    for figures in found:
        figures["of_ideal"] = figures["clicks_per_second"] / (figures["replicas"] * found[0]["clicks_per_second"])
    return found


def _put_to_sleep(repository: Path, seconds: float) -> None:
    """Replaces the decoder by `sleeping_decoder.py`, one click at a time."""
    with serving(repository) as server, triton.InferenceServerClient(server.grpc_url) as client:
        config = client.get_model_config(DECODER).config
    config.backend, config.platform, config.runtime, config.default_model_filename = "python", "", "", ""
    config.max_batch_size = 1
    config.ClearField("dynamic_batching")
    config.parameters["seconds"].string_value = str(seconds)
    folder = repository / DECODER
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
    (folder / "1").unlink()
    (folder / "1").mkdir()
    (folder / "1" / "model.py").write_text((Path(__file__).parent / "sleeping_decoder.py").read_text())


def _rate(url: str, callers: int, window_s: float) -> float:
    clicks = clicks_on(fresh_images(4 * callers), 1)
    turns = itertools.cycle(clicks)
    lock = threading.Lock()
    with Sam3Client(url) as client, ThreadPoolExecutor(callers) as pool:
        with ThreadPoolExecutor(_CALLERS) as few:  # a server refuses many new images at a time
            list(few.map(lambda click: client.set_image(click.image), clicks))
        deadline = time.monotonic() + window_s

        def click_until_then(_: int) -> int:
            count = 0
            while time.monotonic() < deadline:
                with lock:
                    click = next(turns)
                client.predict(image_id=click.image_id, points=[click.point], logits=False)
                count += 1
            return count

        started = time.monotonic()
        return sum(pool.map(click_until_then, range(callers))) / (time.monotonic() - started)


def proxy_cost(repository: Path, amount: Amount) -> Figures:
    """A warm click through the proxy and without it, in turns."""
    with fleet(repository, 1) as several:
        (replica,) = several.replicas()
        (click,) = clicks_on(fresh_images(1), 1)

        def click_with(client: Sam3Client) -> None:
            client.predict(image_id=click.image_id, points=[click.point], logits=False)

        with Sam3Client(several.grpc_url) as proxied, Sam3Client(replica.grpc_url) as direct:
            ways = {"proxied": proxied, "direct": direct}
            proxied.set_image(click.image)
            turns = in_turns(
                {name: (partial(click_with, client), amount.block) for name, client in ways.items()}, amount.rounds
            )
    more = [with_it - without for with_it, without in zip(turns["proxied"], turns["direct"], strict=True)]
    ratios = [with_it / without for with_it, without in zip(turns["proxied"], turns["direct"], strict=True)]
    return {
        "direct_ms": round(statistics.median(turns["direct"]), 3),
        "proxied_ms": round(statistics.median(turns["proxied"]), 3),
        "more_ms": round(statistics.median(more), 3),
        "ratio": round(statistics.median(ratios), 4),
    }


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def markdown(figures: Figures) -> str:
    """The figures as a page."""
    ones = {one["room"]: one["hit_ratio"] for one in figures["hit_ratio"] if one["replicas"] == 1}
    hits = []
    for one in figures["hit_ratio"]:
        share = one["hit_ratio"] / ones[one["room"]]
        numbers = (str(one["room"]), str(one["replicas"]))
        hits.append((*numbers, one["way"], f"{one['hit_ratio']:.4f}", f"{share:.4f}"))
    happened = [
        (
            one["event"],
            "none" if one["retries"] == 0 else "the client's",
            f"{one['failed']} of {one['clicks']}",
            str(one["wrong_masks"]),
            f"{one['median_ms_before']:.0f} / {one['median_ms_during']:.0f} / {one['longest_ms_during']:.0f}",
        )
        for one in figures["events"]
    ]
    killed = [one for one in figures["events"] if "encoded_elsewhere" in one]
    rates = [
        (str(one["replicas"]), f"{one['clicks_per_second']:.1f}", f"{one['of_ideal']:.3f}")
        for one in figures["throughput"]
    ]
    proxy = figures["proxy"]
    parts = [
        "# A fleet on one machine",
        "## Hit ratio of a click trace",
        table(("room for images", "replicas", "way", "hit ratio", "of one server"), hits),
        "## Events under load",
        table(("event", "retries", "failed", "wrong masks", "ms: before / during / longest"), happened),
        *(
            f"{one['encoded_elsewhere']} images of a killed replica were encoded elsewhere until it was back after "
            f"{one['seconds_until_it_is_back']} s; it then encoded {one['encoded_again_after_its_return']} again."
            for one in killed
        ),
        "## Throughput with a decoder that sleeps",
        table(("replicas", "clicks/s", "of k times one replica"), rates),
        "## The proxy",
        f"A warm click takes {proxy['proxied_ms']:.2f} ms through the proxy and {proxy['direct_ms']:.2f} ms without: "
        f"{proxy['more_ms']:.2f} ms more, x {proxy['ratio']:.3f}.",
    ]
    return "\n\n".join(parts) + "\n"
