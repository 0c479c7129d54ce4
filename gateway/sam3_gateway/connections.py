"""Bounds on connections that uvicorn does not have: the time for a request's headers, and their number."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded(header_timeout_s: float, max_connections: int) -> type[H11Protocol]:
    """Returns uvicorn's protocol with two bounds.

    Args:
        header_timeout_s: seconds from the connection, or from the first byte of a later request on it, until the
            headers are complete. A connection that takes longer is closed. Bytes that arrive do not prolong it.
        max_connections: connections at one time. More are closed at once.
    """

    class BoundedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
            else:
                self._expect_headers()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:  # the headers are complete
                self._forget_deadline()
            elif before is None or before.response_complete:
                self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_deadline()
            super().connection_lost(exc)

        def _expect_headers(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(header_timeout_s, self.transport.abort)

        def _forget_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedProtocol
