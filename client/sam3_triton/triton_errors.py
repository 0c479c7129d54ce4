"""Turns the errors of tritonclient, gRPC and HTTP into this package's. No other module does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tritonclient.utils import InferenceServerException

from sam3_triton.errors import (
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)

# gRPC's own words where a connection fails or breaks; what Triton refuses begins otherwise.
_NO_CONNECTION = re.compile(r"connect|socket|reset|goaway|transport|stream removed|pipe", re.IGNORECASE)
# Triton's words where the process of a Python model has died; it does not start it again.
_DEAD_MODEL = "is not healthy"
# tritonclient's words where an answer is none of Triton's.
_NOT_TRITON = "an exception occurred in the client while decoding the response"
# What Triton puts in front of the message of a model inside the ensemble.
_PREFIX = re.compile(r"^((in ensemble '[^']*', )|(\[request id: [^\]]*\] ))+")
_ERRORS: dict[str, type[Sam3Error]] = {
    "INVALID_ARGUMENT": InvalidInputError,
    "400": InvalidInputError,
    "NOT_FOUND": ImageNotCachedError,
    "404": ImageNotCachedError,
    "UNAVAILABLE": ServerUnavailableError,
    "503": ServerUnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "499": DeadlineExceededError,
}


@contextmanager
def translating(netloc: str, timeout_s: float, broken: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """A context in which only errors of this package are raised.

    Args:
        netloc: host and port of the server, for messages.
        timeout_s: seconds that a call may take, for messages.
        broken: what the HTTP library raises where a connection breaks, beside OSError.
    """
    no_connection: tuple[type[Exception], ...] = (OSError, *broken)
    try:
        yield
    except Sam3Error:
        raise
    except InferenceServerException as error:
        raise translated(error, netloc) from error
    except (TimeoutError, asyncio.TimeoutError) as error:  # two classes until Python 3.11
        raise DeadlineExceededError(f"no answer from {netloc} within {timeout_s:.3g} s") from error
    except no_connection as error:
        reason = "what answers there speaks no HTTP" if "Expected HTTP" in str(error) else error
        raise unreachable(netloc, reason) from error


def translated(error: InferenceServerException, netloc: str) -> Sam3Error:
    """Triton's error, or gRPC's, in this package's terms."""
    status = (error.status() or "").removeprefix("StatusCode.")
    message = _PREFIX.sub("", error.message() or "")
    kind = _ERRORS.get(status, PredictionError)
    if kind is ServerUnavailableError and _NO_CONNECTION.search(message):
        return unreachable(netloc, message.splitlines()[0])
    if _NOT_TRITON in message:
        return unreachable(netloc, "what answers there is another service")
    if _DEAD_MODEL in message:
        kind, message = ServerUnavailableError, f"a model's process has died and must be restarted: {message}"
    return kind(message)


def unreachable(netloc: str, reason: object) -> ServerUnavailableError:
    """Nobody answers there, or the connection broke."""
    return ServerUnavailableError(f"no Triton at {netloc} ({reason})")
