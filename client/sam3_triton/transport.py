"""How calls reach Triton, over gRPC or HTTP, from threads. For asyncio see `async_transport`."""

from __future__ import annotations

import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import CHANNEL_ARGUMENTS, Address, Arrays, Call, Region, arrays, microseconds, tensors


class Transport(Protocol):
    """How calls reach Triton; threads may share one."""

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Makes a call and sends the timeout along. Raises only errors of this package."""

    def close(self) -> None:
        """Closes the connections."""


class RegisteringTransport(Transport, Protocol):
    """A transport that can also register shared memory. Its methods raise only errors of this package."""

    def register(self, region: Region) -> None:
        """Registers a region with the server."""

    def unregister(self, region: Region) -> None:
        """Unregisters it."""


def connect(url: str, timeout_s: float) -> RegisteringTransport:
    """The transport for a URL (see `Address`).

    Args:
        timeout_s: the longest that a call will be given.

    Raises:
        InvalidUrlError: not the address of a Triton.
        MissingExtraError: an HTTP address, without the extra `http`.
    """
    address = Address.of(url)
    return (GrpcTransport if address.grpc else HttpTransport)(address, timeout_s)


class _Common:
    """What the two protocols share; each has its own `_client`."""

    _client: Any
    _broken: tuple[type[Exception], ...] = ()

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s

    def register(self, region: Region) -> None:
        """See `RegisteringTransport`."""
        with self._errors():
            self._client.register_system_shared_memory(region.name, region.key, region.size)

    def unregister(self, region: Region) -> None:
        """See `RegisteringTransport`."""
        with self._errors():
            self._client.unregister_system_shared_memory(region.name)

    def _errors(self) -> AbstractContextManager[None]:
        return translating(self._address.netloc, self._timeout_s, self._broken)


class GrpcTransport(_Common):
    """gRPC; one channel."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        from tritonclient import grpc

        super().__init__(address, timeout_s)
        self._module = grpc
        self._client = grpc.InferenceServerClient(address.netloc, ssl=address.tls, channel_args=CHANNEL_ARGUMENTS)

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors():
            result = self._client.infer(
                call.model, inputs, outputs=outputs, client_timeout=timeout_s, timeout=microseconds(timeout_s)
            )
        return arrays(result, call)

    def close(self) -> None:
        """See `Transport`."""
        self._client.close()


class HttpTransport(_Common):
    """HTTP; one connection for each thread, since tritonclient's must not be shared.

    A connection waits as long as the longest call may take, so a call with less time left may take that long too.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address, timeout_s)
        self._module = http_module("tritonclient.http")
        # Raised when the connection closes in the middle of an answer.
        self._broken = (http_module("geventhttpclient.response").HTTPParseError,)
        self._local = threading.local()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()  # drops those of threads that have ended
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

    def close(self) -> None:
        """See `Transport`."""
        with self._lock:
            for client in list(self._clients):
                client.close()
