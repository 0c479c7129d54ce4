"""How calls reach Triton, over gRPC or HTTP, from threads. For asyncio see `async_transport`."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from tritonclient.utils import InferenceServerException

from sam3_triton.wire import (
    CHANNEL_ARGUMENTS,
    Address,
    Arrays,
    Call,
    Region,
    arrays,
    late,
    microseconds,
    tensors,
    translated,
    unreachable,
)


class Transport(Protocol):
    """How calls reach Triton; threads may share one."""

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Makes a call; the server is told the timeout too. Raises an error of this package, and no other."""

    def close(self) -> None:
        """Closes the connections."""


class RegisteringTransport(Transport, Protocol):
    """A transport that can also tell the server of shared memory; each method raises this package's errors alone."""

    def register(self, region: Region) -> None:
        """Tells the server of a region."""

    def unregister(self, region: Region) -> None:
        """Has the server forget it."""


def connect(url: str, timeout_s: float) -> RegisteringTransport:
    """The transport for a URL (see `Address`).

    Args:
        timeout_s: the longest that a call will be given.

    Raises:
        InvalidInputError: no address of a Triton.
    """
    address = Address.of(url)
    return GrpcTransport(address) if address.grpc else HttpTransport(address, timeout_s)


class _SharedMemory:
    """What the two protocols have in common; each has its own `_client`, and its own `_errors` to translate."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def register(self, region: Region) -> None:
        """See `RegisteringTransport`."""
        with self._errors():
            self._client.register_system_shared_memory(region.name, region.key, region.size)

    def unregister(self, region: Region) -> None:
        """See `RegisteringTransport`."""
        with self._errors():
            self._client.unregister_system_shared_memory(region.name)


class GrpcTransport(_SharedMemory):
    """gRPC; one channel."""

    def __init__(self, address: Address) -> None:
        from tritonclient import grpc

        self._module = grpc
        self._address = address
        self._client = grpc.InferenceServerClient(address.netloc, ssl=address.tls, channel_args=CHANNEL_ARGUMENTS)

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors():
            result = self._client.infer(
                call.model, inputs, outputs=outputs, client_timeout=timeout_s, timeout=microseconds(timeout_s)
            )
        return arrays(result, call)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise translated(error, self._address.netloc) from error

    def close(self) -> None:
        """See `Transport`."""
        self._client.close()


class HttpTransport(_SharedMemory):
    """HTTP; one connection a thread, since tritonclient's must not be shared.

    A connection waits as long as any call may take: a call that has less time left may take that long.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        from geventhttpclient.response import HTTPParseError
        from tritonclient import http

        self._module = http
        self._broken = HTTPParseError  # the connection was closed in the middle of an answer
        self._address = address
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()  # those of threads that ended are dropped
        self._lock = threading.Lock()

    @property
    def _client(self) -> Any:
        if not hasattr(self._local, "client"):
            self._local.client = self._module.InferenceServerClient(
                self._address.netloc,
                ssl=self._address.tls,
                connection_timeout=self._timeout_s,
                network_timeout=self._timeout_s,
            )
            with self._lock:
                self._clients.add(self._local.client)
        return self._local.client

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors():
            result = self._client.infer(call.model, inputs, outputs=outputs, timeout=microseconds(timeout_s))
        return arrays(result, call)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise translated(error, self._address.netloc) from error
        except TimeoutError as error:
            raise late(self._address.netloc, self._timeout_s) from error
        except self._broken as error:
            reason = "what answers there speaks no HTTP" if "Expected HTTP" in str(error) else error
            raise unreachable(self._address.netloc, reason) from error
        except OSError as error:
            raise unreachable(self._address.netloc, error) from error

    def close(self) -> None:
        """See `Transport`."""
        with self._lock:
            for client in list(self._clients):
                client.close()
