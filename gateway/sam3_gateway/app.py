"""The application: its routes, middlewares and error handlers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from sam3_triton import (
    ClosedClientError,
    ConceptsNotServedError,
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    Sam3Error,
    ServerUnavailableError,
)
from starlette.formparsers import MultiPartParser

from sam3_gateway import concepts, contract, v1
from sam3_gateway.backend import Backend
from sam3_gateway.description import describe
from sam3_gateway.guard import RETRY_AFTER, Guard
from sam3_gateway.readiness import Readiness
from sam3_gateway.segmenter import ClientClosedError, Segmenter
from sam3_gateway.settings import Settings
from sam3_gateway.telemetry import CLIENT_CLOSED, Metrics, Record, Telemetry
from sam3_gateway.uploads import TooLargeError, UnknownFormatError

_log = logging.getLogger(__name__)
_PAGE = Path(__file__).parent / "page"
# The page may load its own files and call this gateway, nothing else.
_PAGE_MAY_LOAD = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)
_HEADERS_FOR_PAGES = [
    "X-Request-ID",
    "X-Image-ID",
    "X-Cache-Hit",
    "X-SAM3-Model",
    "X-SAM3-Checkpoint",
    "Server-Timing",
]
_STATUSES: tuple[tuple[type[Sam3Error], int], ...] = (
    (UnknownFormatError, 415),
    (TooLargeError, 413),
    (InvalidInputError, 400),
    (ImageNotCachedError, 404),
    (ConceptsNotServedError, 404),
    (ServerUnavailableError, 503),
    (DeadlineExceededError, 503),
    (ClosedClientError, 503),  # the gateway is shutting down
)


def create_app(settings: Settings, backend: Backend) -> FastAPI:
    """Creates the application in front of a backend. It closes the backend when it shuts down."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await backend.close()

    app = FastAPIOffline(
        title="SAM 3 on Triton",
        description="Send an image and clicks, words or example boxes, get masks. If an API key is set, each POST must "
        "send it in X-API-Key.",
        redoc_url=None,
        lifespan=lifespan,
        # The mask inputs of several objects are megabytes of text, and Starlette's own limit is 1 MiB.
        form_limits={"max_part_size": settings.max_body_bytes},
    )
    # The guard limits the body and holds it in memory, so a copy on disk would only cost time.
    MultiPartParser.spool_max_size = settings.max_body_bytes
    # The middleware added last is the outermost.
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_HEADERS_FOR_PAGES,
        )
    app.add_middleware(Telemetry, metrics=metrics)
    for kind, handler in (
        (RequestValidationError, _malformed),
        (Sam3Error, _failed),
        (ClientClosedError, _closed),
        (Exception, _failed),
    ):
        app.add_exception_handler(kind, handler)
    describe(app, with_key=settings.api_key is not None)
    segmenter = Segmenter(backend, settings.max_pixels, settings.formats)
    app.include_router(contract.routes(segmenter, Readiness(backend), settings.max_points))
    app.include_router(v1.routes(segmenter, settings.max_points))
    app.include_router(concepts.routes(segmenter, backend))

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html", headers={"Content-Security-Policy": _PAGE_MAY_LOAD})

    app.mount("/page", StaticFiles(directory=_PAGE), name="page")
    return app


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = first["loc"][-1]
    if first["type"] == "missing":
        fault = "is missing"
    elif "UploadFile" in first["msg"]:  # FastAPI's message for text in place of a file
        fault = "must be a file"
    else:
        fault = str(first["msg"])
    return JSONResponse({"detail": f"{field}: {fault}"}, 400)


def _failed(request: Request, error: Exception) -> Response:
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return JSONResponse({"detail": str(error)}, status, RETRY_AFTER if status == 503 else None)
    _log.error("request %s failed", Record.of(request).request_id, exc_info=error)
    return JSONResponse({"detail": "the prediction failed; see the gateway's log"}, 500)


def _closed(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)  # for the log and the metrics; the caller has disconnected
