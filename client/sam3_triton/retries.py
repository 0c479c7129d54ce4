"""Transports that send a call again if its connection fails. They wrap another transport.

Every call of this package is safe to repeat: the server only computes.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time

from sam3_triton.async_transport import AsyncTransport
from sam3_triton.errors import ClosedClientError, NoServerError
from sam3_triton.transport import Transport
from sam3_triton.wire import Arrays, Call

DEFAULT_RETRIES = 3
# The first pauses are about as long as gRPC needs to connect again. Three pauses take 1.3 s at most.
_FIRST_PAUSE_S, _GROWTH = 0.1, 3.0
_CLOSED = "this client was closed while a call waited to be sent again"


class _Retries:
    """The retries of one call."""

    def __init__(self, retries: int, timeout_s: float) -> None:
        self._left = retries
        self._deadline = time.monotonic() + timeout_s
        self._pause_s = _FIRST_PAUSE_S

    def remaining_s(self) -> float:
        """The seconds that the call still has."""
        return max(0.0, self._deadline - time.monotonic())

    def pause_s(self, error: NoServerError) -> float:
        """Returns the seconds to wait before the call is sent again. They are random, so that the clients of a server
        that has gone do not all come back at once.

        Raises:
            NoServerError: the error, because the call has no retry or no time left.
        """
        pause_s = self._pause_s * random.uniform(0.5, 1)
        if self._left <= 0 or pause_s >= self.remaining_s():
            raise error
        self._left -= 1
        self._pause_s *= _GROWTH
        return pause_s


class RetryingTransport:
    """A `Transport` that sends a call again, within its timeout, if there was no server for it."""

    def __init__(self, inner: Transport, retries: int) -> None:
        """
        Args:
            retries: how often a call may be sent again.
        """
        self._inner = inner
        self._retries = retries
        self._closed = threading.Event()

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        retries = _Retries(self._retries, timeout_s)
        while True:
            try:
                return self._inner.infer(call, retries.remaining_s())
            except NoServerError as error:
                if self._closed.wait(retries.pause_s(error)):
                    raise ClosedClientError(_CLOSED) from error

    def close(self) -> None:
        """See `Transport`. A call that waits to be sent again raises `ClosedClientError`."""
        self._closed.set()
        self._inner.close()


class AsyncRetryingTransport:
    """An `AsyncTransport` that sends a call again, within its timeout, if there was no server for it."""

    def __init__(self, inner: AsyncTransport, retries: int) -> None:
        """
        Args:
            retries: how often a call may be sent again.
        """
        self._inner = inner
        self._retries = retries
        self._closed = False

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        retries = _Retries(self._retries, timeout_s)
        while True:
            try:
                return await self._inner.infer(call, retries.remaining_s())
            except NoServerError as error:
                await asyncio.sleep(retries.pause_s(error))
                if self._closed:
                    raise ClosedClientError(_CLOSED) from error

    async def close(self) -> None:
        """See `AsyncTransport`. A call that waits to be sent again raises `ClosedClientError`."""
        self._closed = True
        await self._inner.close()
