"""Translates errors of tritonclient, gRPC and HTTP into this package's. No other module does that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tritonclient.utils import InferenceServerException

from sam3_triton.errors import (
    ConceptsNotServedError,
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    NoServerError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)

# gRPC's messages for a failed or broken connection, by status. If a proxy's server breaks off in the middle of an
# answer, gRPC reports UNKNOWN. Triton's own messages do not match, nor does that of a call that was too slow.
_BROKEN_STREAM = re.compile(r"stream removed|rst_stream|end_stream|socket closed|connection reset", re.IGNORECASE)
_NO_CONNECTION = {
    "UNAVAILABLE": re.compile(
        r"connect|socket|reset|goaway|transport|stream removed|pipe|\bpings?\b|http2 header|cancelling all calls",
        re.IGNORECASE,
    ),
    "UNKNOWN": _BROKEN_STREAM,
    "INTERNAL": _BROKEN_STREAM,
    "CANCELLED": _BROKEN_STREAM,
}
# HTTP statuses of a proxy that has no server, or whose server broke off. Triton's own 503 has a message in JSON.
_OF_A_PROXY = ("502", "503", "504")
# From Triton's message when a Python model's process has died. Triton does not restart it.
_DEAD_MODEL = "is not healthy"
# From Triton's messages while it starts or stops. It unloads its models before it closes its ports.
_STARTS_OR_STOPS = re.compile(r"server not ready|server is stopping|has no available versions", re.IGNORECASE)
# From tritonclient's message for an answer that is not Triton's.
_NOT_TRITON = "an exception occurred in the client while decoding the response"
# From Triton's message for a model that its repository does not have. Only an export with concept prompts adds these.
_NO_CONCEPTS = re.compile(r"unknown model: 'sam3_(concept|text_cache)' is not found")
_HOW_TO_EXPORT_CONCEPTS = (
    "this server does not serve concept prompts: its model was exported without them. Export a checkpoint that has "
    "them with sam3-export --components clicks,concepts, and restart the server"
)
# Triton's prefix to the message of a model inside the ensemble.
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
    """Within this context, only this package's errors are raised.

    Args:
        netloc: host and port of the server, for messages.
        timeout_s: timeout of a call in seconds, for messages.
        broken: errors besides OSError that the HTTP library raises for a broken connection.
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
        reason = "the server there does not speak HTTP" if "Expected HTTP" in str(error) else error
        raise unreachable(netloc, reason) from error


def translated(error: InferenceServerException, netloc: str) -> Sam3Error:
    """Returns this package's error for an error of Triton or gRPC."""
    status = (error.status() or "").removeprefix("StatusCode.")
    message = _PREFIX.sub("", error.message() or "")
    if status in _NO_CONNECTION and _NO_CONNECTION[status].search(message):
        return unreachable(netloc, message.splitlines()[0])
    if _NOT_TRITON in message:
        if status in _OF_A_PROXY:
            return unreachable(netloc, f"a proxy there answers {status}")
        return ServerUnavailableError(_none_at(netloc, "the server there is not a Triton"))
    if _NO_CONCEPTS.search(message):
        return ConceptsNotServedError(_HOW_TO_EXPORT_CONCEPTS)
    if _DEAD_MODEL in message:
        return NoServerError(f"a model's process has died and must be restarted: {message}")
    if _STARTS_OR_STOPS.search(message):
        return NoServerError(f"the server starts or stops: {message}")
    return _ERRORS.get(status, PredictionError)(message)


def unreachable(netloc: str, reason: object) -> NoServerError:
    """Returns the error for a server that does not answer, or for a broken connection."""
    return NoServerError(_none_at(netloc, reason))


def _none_at(netloc: str, reason: object) -> str:
    return f"no Triton at {netloc} ({reason})"
