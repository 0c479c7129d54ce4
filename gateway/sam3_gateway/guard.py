"""Checks each request before anything parses it: API key, requests in flight, size, upload time."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam3_gateway.settings import Settings
from sam3_gateway.telemetry import Metrics

# Seconds after which a refused caller may try again.
RETRY_AFTER = {"Retry-After": "1"}
# The body is passed on in pieces of this size, so that the event loop can serve other requests in between.
_PIECE = 256 * 1024


class _RefusedError(Exception):
    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.answer = JSONResponse({"detail": detail}, status, headers)


class _DisconnectedError(Exception):
    """The caller has disconnected."""


class Guard:
    """ASGI middleware for POST: refuses requests beyond the limits, and passes on the others with a complete body."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._key = None if settings.api_key is None else settings.api_key.get_secret_value().encode()
        self._gauge = metrics.in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_key(headers)
            self._enter()
        except _RefusedError as refusal:
            await refusal.answer(scope, receive, send)
            return
        try:
            with scope["sam3_record"].stage("read"):
                body = await self._read(headers, receive)
            await self._app(scope, _replayed(body, receive), send)
        except _RefusedError as refusal:
            await refusal.answer(scope, receive, send)
        except _DisconnectedError:
            pass
        finally:
            self._leave()

    def _check_key(self, headers: Headers) -> None:
        if self._key is None:
            return
        given = headers.get("x-api-key", "").encode("latin-1")
        if not hmac.compare_digest(given, self._key):
            fault = "is wrong" if given else "is missing"
            raise _RefusedError(401, f"the API key in the header X-API-Key {fault}")

    def _enter(self) -> None:
        if self._in_flight >= self._settings.max_in_flight:
            raise _RefusedError(503, f"too busy: {self._in_flight} requests are in flight", RETRY_AFTER)
        self._in_flight += 1
        self._gauge.set(self._in_flight)

    def _leave(self) -> None:
        self._in_flight -= 1
        self._gauge.set(self._in_flight)

    async def _read(self, headers: Headers, receive: Receive) -> bytearray:
        most = self._settings.max_body_bytes
        too_large = _RefusedError(413, f"the request is too large: at most {most} bytes are accepted")
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise too_large
        seconds = self._settings.upload_timeout_s
        try:
            return await asyncio.wait_for(_body(receive, most, too_large), seconds)
        except asyncio.TimeoutError:
            raise _RefusedError(408, f"the request did not arrive within {seconds:g} s") from None


async def _body(receive: Receive, most: int, too_large: _RefusedError) -> bytearray:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        body += message.get("body", b"")
        if len(body) > most:
            raise too_large
        if not message.get("more_body", False):
            return body


def _replayed(body: bytearray, receive: Receive) -> Receive:
    start = 0
    ended = False

    async def replay() -> Message:
        nonlocal start, ended
        if ended:
            return await receive()  # only a disconnect can follow
        if start:
            await asyncio.sleep(0)
        piece = bytes(body[start : start + _PIECE])
        start += len(piece)
        ended = start >= len(body)
        if ended:
            body.clear()
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return replay
