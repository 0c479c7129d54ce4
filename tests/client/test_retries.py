"""Retries end when their client is closed."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sam3_triton import ClosedClientError, NoServerError, retries
from sam3_triton.retries import AsyncRetryingTransport, RetryingTransport
from sam3_triton.wire import Arrays, Call

CALL = Call({}, ())
LIMIT_S = 60


class Refusing:
    """A transport without a server."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = threading.Event()

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        self.calls += 1
        self.called.set()
        raise NoServerError("nobody")

    def close(self) -> None:
        pass


class AsyncRefusing:
    """The same for asyncio."""

    def __init__(self) -> None:
        self.calls = 0

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        self.calls += 1
        raise NoServerError("nobody")

    async def close(self) -> None:
        pass


def test_a_closed_client_sends_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 10 * LIMIT_S)
    inner = Refusing()
    transport = RetryingTransport(inner, 3)
    errors: list[Exception] = []

    def call() -> None:
        try:
            transport.infer(CALL, 20 * LIMIT_S)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert inner.called.wait(LIMIT_S)
    transport.close()
    thread.join(LIMIT_S)
    assert [type(error) for error in errors] == [ClosedClientError]
    assert inner.calls == 1


def test_a_closed_asyncio_client_sends_nothing_again() -> None:
    inner = AsyncRefusing()
    transport = AsyncRetryingTransport(inner, 3)

    async def close_during_a_pause() -> None:
        call = asyncio.create_task(transport.infer(CALL, LIMIT_S))
        while not inner.calls:
            await asyncio.sleep(0)
        await transport.close()
        await call

    with pytest.raises(ClosedClientError):
        asyncio.run(close_during_a_pause())
    assert inner.calls == 1
