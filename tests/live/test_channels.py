"""Long-lived clients find new connections, and notice a peer that has vanished."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from pictures import fresh_image
from relay import relay
from sam3_triton import AsyncSam3Client, Sam3Client, channels
from silent_triton import silent_triton

SMALL = fresh_image()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def click(client: Sam3Client) -> None:
    assert client.predict(SMALL, points=[[1, 1]]).mask_pngs


def test_a_channel_is_renewed(server, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(server.grpc_url) as link:
        with Sam3Client(link.address) as client:
            for _ in range(3):
                click(client)
        assert link.connections == 1
        monkeypatch.setattr(channels, "MAX_AGE_S", 0.0)
        with Sam3Client(link.address) as client:
            for _ in range(3):
                click(client)
            assert link.connections == 1 + 3
            wait_until(lambda: link.open <= 1, "old connections are still open")


def test_a_peer_that_vanishes_costs_seconds(server, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"grpc.keepalive_time_ms": 500, "grpc.http2.ping_timeout_ms": 1000}
    assert quick.keys() <= dict(channels.ARGUMENTS).keys()
    monkeypatch.setattr(channels, "ARGUMENTS", list({**dict(channels.ARGUMENTS), **quick}.items()))
    with relay(server.grpc_url) as link, Sam3Client(link.address, timeout_s=60) as client:
        click(client)
        link.silence()
        click(client)
        assert link.connections > 1


def test_a_channel_is_renewed_in_asyncio(server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_AGE_S", 0.0)

    async def ask(address: str) -> None:
        async with AsyncSam3Client(address) as client:
            for _ in range(3):
                await asyncio.gather(*(client.predict(SMALL, points=[[1, 1]]) for _ in range(4)))
            assert link.connections >= 12
            await asyncio.to_thread(wait_until, lambda: link.open <= 1, "old connections are still open")

    with relay(server.grpc_url) as link:
        asyncio.run(ask(link.address))


def test_calls_in_flight_keep_their_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_AGE_S", 0.0)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.model()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    with silent_triton() as (triton, address):
        client = Sam3Client(address, timeout_s=600, retries=0)
        for count, thread in enumerate(threads, start=1):
            thread.start()
            triton.wait_for(count, 0)  # those before it are still in flight
        assert not errors
    # The server has ended; a channel that was closed would be another error.
    for thread in threads:
        thread.join()
    client.close()
    assert [type(error).__name__ for error in errors] == ["NoServerError"] * 3, errors
