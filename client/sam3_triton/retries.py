"""Transports that send a call again if its connection fails. They wrap another transport.

Every call of this package is safe to repeat: the server only computes.
"""

from __future__ import annotations

import asyncio
import random
import time

from sam3_triton.async_transport import AsyncTransport
from sam3_triton.errors import NoServerError
from sam3_triton.transport import Transport
from sam3_triton.wire import Arrays, Call

DEFAULT_RETRIES = 3
# The first pauses are about as long as gRPC needs to connect again. Three pauses take 1.3 s at most.
_FIRST_PAUSE_S, _GROWTH = 0.1, 3.0


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

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        retries = _Retries(self._retries, timeout_s)
        while True:
            try:
                return self._inner.infer(call, retries.remaining_s())
            except NoServerError as error:
                time.sleep(retries.pause_s(error))

    def close(self) -> None:
        """See `Transport`."""
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

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        retries = _Retries(self._retries, timeout_s)
        while True:
            try:
                return await self._inner.infer(call, retries.remaining_s())
            except NoServerError as error:
                await asyncio.sleep(retries.pause_s(error))

    async def close(self) -> None:
        """See `AsyncTransport`."""
        await self._inner.close()
