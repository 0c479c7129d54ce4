"""Multipart uploads to `/predict/mask`, as its callers send them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence

import aiohttp

from benchmarks.clicks import Click
from benchmarks.results import BenchmarkError, Latency

# The full-size network encodes for a minute, and eight callers wait for one another.
_TIMEOUT = aiohttp.ClientTimeout(total=1200)


def post_clicks(url: str, clicks: Sequence[Click], count: int, concurrency: int = 1) -> Latency:
    """Posts `count` clicks, taken in turns, `concurrency` at one time.

    Raises:
        BenchmarkError: an answer was not a mask.
    """
    seconds, elapsed = asyncio.run(_post_all(f"{url}/predict/mask", clicks, count, concurrency))
    return Latency.of(seconds, elapsed)


async def _post_all(url: str, clicks: Sequence[Click], count: int, concurrency: int) -> tuple[list[float], float]:
    queue = iter(list(itertools.islice(itertools.cycle(clicks), count)))
    seconds: list[float] = []
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:

        async def caller() -> None:
            for click in queue:
                started = time.perf_counter()
                await _post(session, url, click)
                seconds.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(concurrency)))
        return seconds, time.perf_counter() - started


async def _post(session: aiohttp.ClientSession, url: str, click: Click) -> None:
    form = aiohttp.FormData()
    form.add_field("image", click.image, filename="image.jpg", content_type="image/jpeg")
    form.add_field("points", json.dumps([click.point]))
    async with session.post(url, data=form) as answer:
        body = await answer.read()
        if answer.status != 200 or answer.content_type != "image/png":
            raise BenchmarkError(f"{url} answered with {answer.status}: {body[:200]!r}")
