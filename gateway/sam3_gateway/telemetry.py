"""Telemetry of each request: an access log in JSON lines, response headers, Prometheus metrics."""

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
from sam3_triton import ServedModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACCESS_LOG = logging.getLogger("sam3.access")
# A caller may choose its request's id in this form, to trace the request through several services.
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
# The caller disconnected before the answer. nginx uses the same status.
CLIENT_CLOSED = 499
_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


@dataclass
class Record:
    """The telemetry of one request.

    Attributes:
        milliseconds: by stage, in order: `read` (receive the body), `inspect` (the image's header and id), `triton`,
            `encode` (write the answer).
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    milliseconds: dict[str, float] = field(default_factory=dict)
    image_id: str | None = None
    cache_hit: bool | None = None
    model: ServedModel | None = None

    @classmethod
    def of(cls, request: Request) -> Record:
        """Returns the record of a request."""
        record: Record = request.scope["sam3_record"]
        return record

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the time within the context as that stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] = _milliseconds(started)

    def so_far(self) -> dict[str, float]:
        """Returns milliseconds by stage and the `total` so far, rounded to a tenth."""
        stages = {**self.milliseconds, "total": _milliseconds(self.started)}
        return {name: round(value, 1) for name, value in stages.items()}


class Metrics:
    """The gateway's metrics, in their own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sam3_gateway_requests", "Requests answered", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "sam3_gateway_request_seconds",
            "Duration of requests, from the first byte of the request to the last of the answer, in seconds",
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
            "Requests for an image, by whether Triton had it in its cache",
            ("cached",),
            registry=self._registry,
        )
        self.in_flight = Gauge("sam3_gateway_in_flight", "POST requests in flight", registry=self._registry)

    def count(self, path: str, status: int, record: Record) -> None:
        """Counts a finished request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(_milliseconds(record.started) / 1000)
        for stage, milliseconds in record.milliseconds.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        if record.cache_hit is not None:
            self._images.labels(str(record.cache_hit).lower()).inc()

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Telemetry:
    """The outermost ASGI middleware: keeps a record of each request and reports it in headers, metrics and the log."""

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
            status = 500  # answered outside this middleware
            raise
        finally:
            self._metrics.count(_path(scope), status, record)
            _log(scope, status, record)


def log_to_stdout() -> None:
    """Writes the access log to standard output, one JSON line for each request."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ACCESS_LOG.addHandler(handler)
    ACCESS_LOG.setLevel(logging.INFO)
    ACCESS_LOG.propagate = False


def _path(scope: Scope) -> str:
    """Returns the path of the request's route. Unknown paths count as one, so that they cannot fill the memory."""
    if path := getattr(scope.get("route"), "path", None):
        return str(path)
    # A request that the guard refused has no route yet.
    return scope["path"] if scope["path"] in scope["app"].openapi()["paths"] else "other"


def _add_headers(headers: MutableHeaders, record: Record) -> None:
    headers["X-Request-ID"] = record.request_id
    headers["Server-Timing"] = ", ".join(f"{name};dur={value}" for name, value in record.so_far().items())
    if record.image_id is not None:
        headers["X-Image-ID"] = record.image_id
    if record.cache_hit is not None:
        headers["X-Cache-Hit"] = str(record.cache_hit).lower()
    if record.model is not None:
        headers["X-SAM3-Model"] = record.model.name
        headers["X-SAM3-Checkpoint"] = record.model.checkpoint_sha256


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
