"""What the gateway says of each request: an access log of JSON lines, response headers, Prometheus metrics."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCESS_LOG = logging.getLogger("sam3.access")
# What a caller may choose as its request's id, so that it can be followed through several services.
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
# Closed by the client before there was an answer; the status that nginx gives such requests.
CLIENT_CLOSED = 499
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


@dataclass
class Record:
    """What is known of one request.

    Attributes:
        milliseconds: by stage, in the order they were gone through: `read` (the body), `inspect` (the image's header
            and id), `triton`, `encode` (the answer).
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    milliseconds: dict[str, float] = field(default_factory=dict)
    image_id: str | None = None
    cache_hit: bool | None = None

    @classmethod
    def of(cls, request: Request) -> Record:
        """The record of the request in hand."""
        record: Record = request.scope["sam3_record"]
        return record

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time within as that stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] = _milliseconds(started)

    def so_far(self) -> dict[str, float]:
        """Milliseconds by stage, and the `total` until now, to a tenth."""
        stages = {**self.milliseconds, "total": _milliseconds(self.started)}
        return {name: round(value, 1) for name, value in stages.items()}


class Metrics:
    """The gateway's counts, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sam3_gateway_requests", "Requests answered", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "sam3_gateway_request_seconds",
            "From a request's first byte to the answer's last, in seconds",
            ("path",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "sam3_gateway_stage_seconds",
            "Seconds by stage: read (the body), inspect (the image's header and id), triton, encode (the answer)",
            ("stage",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._images = Counter(
            "sam3_gateway_images",
            "Images asked about, by whether Triton had them cached",
            ("cached",),
            registry=self._registry,
        )
        self.in_flight = Gauge("sam3_gateway_in_flight", "Requests being worked on", registry=self._registry)

    def count(self, path: str, status: int, record: Record) -> None:
        """Counts a request that has ended."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(_milliseconds(record.started) / 1000)
        for stage, milliseconds in record.milliseconds.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        if record.cache_hit is not None:
            self._images.labels(str(record.cache_hit).lower()).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class Telemetry:
    """ASGI middleware, the outermost: gives each request a record, tells of it in headers, metrics and the log."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("x-request-id", "")
        record = Record(wanted if _REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex)
        scope["sam3_record"] = record
        status = CLIENT_CLOSED

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), record)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            status = 500  # answered by whoever catches it, outside
            raise
        finally:
            self._metrics.count(_path(scope), status, record)
            _log(scope, status, record)


def log_to_stdout() -> None:
    """Has the access log written, a line of JSON for each request."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ACCESS_LOG.addHandler(handler)
    ACCESS_LOG.setLevel(logging.INFO)
    ACCESS_LOG.propagate = False


def _path(scope: Scope) -> str:
    """The path of the request's route. Unknown ones are one: whoever tries many must not fill the memory."""
    if path := getattr(scope.get("route"), "path", None):
        return str(path)
    # Refused at the door, before it had a route.
    return scope["path"] if scope["path"] in scope["app"].openapi()["paths"] else "other"


def _add_headers(headers: MutableHeaders, record: Record) -> None:
    headers["X-Request-ID"] = record.request_id
    headers["Server-Timing"] = ", ".join(f"{name};dur={value}" for name, value in record.so_far().items())
    if record.image_id is not None:
        headers["X-Image-ID"] = record.image_id
    if record.cache_hit is not None:
        headers["X-Cache-Hit"] = str(record.cache_hit).lower()


def _log(scope: Scope, status: int, record: Record) -> None:
    if not ACCESS_LOG.isEnabledFor(logging.INFO):
        return
    line = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "client": scope["client"][0] if scope.get("client") else None,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "image_id": record.image_id,
        "cache_hit": record.cache_hit,
        "ms": record.so_far(),
    }
    ACCESS_LOG.info(json.dumps(line))


def _milliseconds(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
