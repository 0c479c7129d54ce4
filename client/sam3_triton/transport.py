"""One request to Triton, over gRPC or HTTP. Triton's errors become this package's here and nowhere else."""

from __future__ import annotations

import re
import threading
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from tritonclient.utils import InferenceServerException

from sam3_triton.errors import (
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)

MODEL = "sam3"
Arrays = dict[str, np.ndarray]

_TRITON_TYPES = {"float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
# gRPC waits ever longer between attempts to connect, up to two minutes, and refuses calls meanwhile: a server
# that is back would seem to be gone. Given arguments, tritonclient leaves out its own, the lengths.
_CHANNEL = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
}
# gRPC's own words where a connection fails or breaks; what Triton refuses begins otherwise.
_NO_CONNECTION = re.compile(r"connect|socket|reset|goaway|transport|stream removed|pipe", re.IGNORECASE)
# Triton's words where the process of a Python model has died; it does not start it again.
_DEAD_MODEL = "is not healthy"
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


class Transport(Protocol):
    """How requests reach Triton."""

    def infer(self, inputs: Arrays, outputs: tuple[str, ...], model: str = MODEL) -> Arrays:
        """Runs a model; the server is told the timeout too. Raises an error of this package, and no other."""

    def close(self) -> None:
        """Closes the connections."""


def connect(url: str, timeout_s: float) -> Transport:
    """The transport for a URL: `host:port` and `grpc://` are gRPC, `http://` is HTTP; `grpcs://`, `https://` use TLS.

    Raises:
        InvalidInputError: a URL of another kind.
    """
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.hostname:
        raise InvalidInputError(f"{url!r} is no address of a Triton: host:port, grpc://host:port or http://host:port")
    tls = parts.scheme in ("grpcs", "https")
    if parts.scheme.startswith("grpc"):
        return GrpcTransport(parts.netloc, tls, timeout_s)
    return HttpTransport(parts.netloc, tls, timeout_s)


class GrpcTransport:
    """gRPC; one channel, which threads may share."""

    def __init__(self, address: str, tls: bool, timeout_s: float) -> None:
        from tritonclient import grpc

        self._module = grpc
        self._address = address
        self._timeout_s = timeout_s
        self._client = grpc.InferenceServerClient(address, ssl=tls, channel_args=list(_CHANNEL.items()))

    def infer(self, inputs: Arrays, outputs: tuple[str, ...], model: str = MODEL) -> Arrays:
        """See `Transport`."""
        tensors, requested = _tensors(self._module, inputs, outputs)
        try:
            result = self._client.infer(
                model,
                tensors,
                outputs=requested,
                client_timeout=self._timeout_s,
                timeout=_microseconds(self._timeout_s),
            )
        except InferenceServerException as error:
            raise _translated(error, self._address) from error
        return _arrays(result, outputs)

    def close(self) -> None:
        """See `Transport`."""
        self._client.close()


class HttpTransport:
    """HTTP; one connection a thread, since tritonclient's must not be shared."""

    def __init__(self, address: str, tls: bool, timeout_s: float) -> None:
        from geventhttpclient.response import HTTPParseError
        from tritonclient import http

        self._module = http
        self._broken = HTTPParseError  # the connection was closed in the middle of an answer
        self._address = address
        self._tls = tls
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._clients: list[Any] = []
        self._lock = threading.Lock()

    @property
    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = self._module.InferenceServerClient(
                self._address, ssl=self._tls, connection_timeout=self._timeout_s, network_timeout=self._timeout_s
            )
            with self._lock:
                self._clients.append(self._local.client)
        return self._local.client

    def infer(self, inputs: Arrays, outputs: tuple[str, ...], model: str = MODEL) -> Arrays:
        """See `Transport`."""
        tensors, requested = _tensors(self._module, inputs, outputs)
        try:
            result = self._client.infer(model, tensors, outputs=requested, timeout=_microseconds(self._timeout_s))
        except InferenceServerException as error:
            raise _translated(error, self._address) from error
        except TimeoutError as error:
            raise DeadlineExceededError(f"no answer from {self._address} within {self._timeout_s:g} s") from error
        except (OSError, self._broken) as error:
            raise ServerUnavailableError(f"no Triton at {self._address} ({error})") from error
        return _arrays(result, outputs)

    def close(self) -> None:
        """See `Transport`."""
        with self._lock:
            for client in self._clients:
                client.close()


def _microseconds(seconds: float) -> int:
    return int(1e6 * seconds)


def _tensors(module: ModuleType, inputs: Arrays, outputs: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    tensors = []
    for name, array in inputs.items():
        tensor = module.InferInput(name, list(array.shape), _TRITON_TYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors, [module.InferRequestedOutput(name) for name in outputs]


def _arrays(result: Any, outputs: tuple[str, ...]) -> Arrays:
    arrays = {name: result.as_numpy(name) for name in outputs}
    missing = [name for name, array in arrays.items() if array is None]
    if missing:
        raise PredictionError(f"the server's answer lacks {', '.join(missing)}")
    return arrays


def _translated(error: InferenceServerException, address: str) -> Sam3Error:
    status = (error.status() or "").removeprefix("StatusCode.")
    message = _PREFIX.sub("", error.message() or "")
    kind = _ERRORS.get(status, PredictionError)
    if kind is ServerUnavailableError and _NO_CONNECTION.search(message):
        message = f"no Triton at {address} ({message.splitlines()[0]})"
    if _DEAD_MODEL in message:
        kind, message = ServerUnavailableError, f"a model's process has died and must be restarted: {message}"
    return kind(message)
