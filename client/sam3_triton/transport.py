"""Transports for threads: send calls to Triton over gRPC or HTTP. For asyncio see `async_transport`."""

from __future__ import annotations

import threading
import weakref
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sam3_triton import channels
from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import Address, Arrays, Call, Region, arrays, microseconds, tensors


class Transport(Protocol):
    """Sends calls to Triton. Threads can share one transport."""

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Sends a call and its timeout, and returns the outputs. Raises only this package's errors."""

    def close(self) -> None:
        """Closes the connections."""


class RegisteringTransport(Transport, Protocol):
    """A transport that can also register shared memory. Its methods raise only this package's errors."""

    def register(self, region: Region) -> None:
        """Registers a region with the server."""

    def unregister(self, region: Region) -> None:
        """Unregisters a region."""


def connect(url: str, timeout_s: float) -> RegisteringTransport:
    """Returns the transport for a URL (see `Address`).

    Args:
        timeout_s: the longest timeout of any call, in seconds.

    Raises:
        InvalidUrlError: the URL is invalid.
        MissingExtraError: the URL is an HTTP one, and the extra `http` is not installed.
    """
    address = Address.of(url)
    return (GrpcTransport if address.grpc else HttpTransport)(address, timeout_s)


class _Common:
    """Common base of the two transports, each of which has its own `_client`."""

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
    """gRPC; one channel at a time."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        from tritonclient import grpc

        super().__init__(address, timeout_s)
        self._module = grpc
        self._renewing = channels.Renewing(
            lambda: grpc.InferenceServerClient(address.netloc, ssl=address.tls, channel_args=channels.ARGUMENTS)
        )

    @property
    def _client(self) -> Any:
        return self._renewing.client()

    def close(self) -> None:
        """See `Transport`."""
        if self._renewing.current is not None:
            self._renewing.current.close()

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors():
            result = self._client.infer(
                call.model,
                inputs,
                outputs=outputs,
                client_timeout=timeout_s,
                timeout=microseconds(timeout_s),
                headers=call.headers,
            )
        return arrays(result, call)


class HttpTransport(_Common):
    """HTTP; one connection per thread, because threads must not share tritonclient's HTTP client.

    A connection has one timeout for all its calls, so a call with less time left can still take `timeout_s`.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address, timeout_s)
        self._module = http_module("tritonclient.http")
        # Raised if the connection closes in the middle of an answer.
        self._broken = (http_module("geventhttpclient.response").HTTPParseError,)
        self._local = threading.local()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()  # forgets the clients of ended threads
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
            result = self._client.infer(
                call.model, inputs, outputs=outputs, timeout=microseconds(timeout_s), headers=call.headers
            )
        return arrays(result, call)

    def close(self) -> None:
        """See `Transport`."""
        with self._lock:
            for client in list(self._clients):
                client.close()
