"""The HTTP contract of existing callers, on top of the client: multipart image and points in, mask PNG out."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response

from sam3_triton.client import Sam3Client
from sam3_triton.errors import InvalidInputError, Sam3Error, ServerUnavailableError

_log = logging.getLogger(__name__)
# Each probe is a click, so those who ask for the health within this time share one.
_PROBE_EVERY_S = 1.0
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def create_app(client: Sam3Client, cors: bool = True) -> FastAPI:
    """The application over a client.

    Args:
        cors: lets pages of any origin call it, as existing callers expect.
    """
    app = FastAPI(title="SAM 3 on Triton", description="An image and clicks in, a mask out.")
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Sam3Error, _failed)
    app.add_exception_handler(Exception, _failed)
    readiness = Readiness(client)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the gateway runs, and whether Triton answers a click."""
        return {"status": "running", "model_loaded": readiness.check()}

    @app.post(
        "/predict/mask",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}}, "description": "The best mask: one 8-bit channel, 0 and 255."},
            400: {"description": "The image, the points or the labels make no sense; `detail` names the fault."},
            500: {"description": "The prediction failed."},
            503: {"description": "The models are not loaded, or Triton cannot be reached."},
        },
    )
    def predict_mask(
        image: Annotated[UploadFile, File(description="An image file: PNG, JPEG, WebP, ...")],
        points: Annotated[str, Form(description="JSON, [[x, y], ...] or flat [x, y, ...], in pixels of the image")],
        labels: Annotated[
            str | None,
            Form(description="JSON, a list or one number: 1 foreground, 0 background; left out: all foreground"),
        ] = None,
        multimask: Annotated[str, Form(description="true: choose the best of three candidates")] = "false",
    ) -> Response:
        """The best mask for the clicks, of the size of the image."""
        prediction = client.predict(
            image.file.read(),
            points=parse_points(points),
            labels=None if labels is None else parse_labels(labels),
            multimask=parse_flag("multimask", multimask),
        )
        return Response(prediction.mask_pngs[0], media_type="image/png")

    return app


class Readiness:
    """Whether the server answers a probe, asked once a second however many want to know."""

    def __init__(self, client: Sam3Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._ready = False
        self._stale_at = float("-inf")

    def check(self) -> bool:
        """The answer of a probe that is at most a second old."""
        with self._lock:
            if time.monotonic() >= self._stale_at:
                self._ready = self._client.is_ready()
                self._stale_at = time.monotonic() + _PROBE_EVERY_S
            return self._ready


def parse_points(text: str) -> list[Any]:
    """JSON `[[x, y], ...]` or flat `[x, y, ...]` to a list of pairs.

    Raises:
        InvalidInputError: not JSON, or of another form.
    """
    values = _json("points", text)
    if not isinstance(values, list) or not values:
        raise InvalidInputError(f"points must be a JSON list [[x, y], ...], not {_shortened(text)}")
    if all(_is_number(value) for value in values):
        if len(values) % 2:
            raise InvalidInputError(f"a flat list of points needs an even count of numbers, not {len(values)}")
        return [values[start : start + 2] for start in range(0, len(values), 2)]
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(_is_number(number) for number in value)):
            raise InvalidInputError(f"each point must be [x, y], not {_shortened(json.dumps(value))}")
    return values


def parse_labels(text: str) -> list[Any]:
    """JSON list, or one number, to a list.

    Raises:
        InvalidInputError: not JSON, or of another form.
    """
    values = _json("labels", text)
    if _is_number(values):
        return [values]
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise InvalidInputError(f"labels must be a JSON list of 0 and 1, or one of them, not {_shortened(text)}")
    return values


def parse_flag(name: str, text: str) -> bool:
    """The spellings of HTML forms and of Python's `str(bool)`.

    Raises:
        InvalidInputError: anything else.
    """
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise InvalidInputError(f"{name} must be true or false, not {_shortened(text)}")


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} must be JSON, not {_shortened(text)}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = first["loc"][-1]
    fault = "is missing" if first["type"] == "missing" else str(first["msg"])
    return JSONResponse({"detail": f"{field}: {fault}"}, 400)


def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, InvalidInputError):
        return JSONResponse({"detail": str(error)}, 400)
    if isinstance(error, ServerUnavailableError):
        return JSONResponse({"detail": str(error)}, 503)
    _log.error("prediction failed", exc_info=error)
    return JSONResponse({"detail": "prediction error; see the gateway's log"}, 500)
