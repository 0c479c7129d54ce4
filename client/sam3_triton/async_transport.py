"""How calls reach Triton, over gRPC or HTTP, from an event loop."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol

from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import CHANNEL_ARGUMENTS, Address, Arrays, Call, Region, arrays, microseconds, tensors


class AsyncTransport(Protocol):
    """How calls reach Triton; it belongs to the event loop that it is first used in."""

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Makes a call and sends the timeout along. Cancelling it cancels the request.

        Raises only errors of this package.
        """

    async def close(self) -> None:
        """Closes the connections."""


class AsyncRegisteringTransport(AsyncTransport, Protocol):
    """A transport that can also register shared memory. Its methods raise only errors of this package."""

    async def register(self, region: Region) -> None:
        """Registers a region with the server."""

    async def unregister(self, region: Region) -> None:
        """Unregisters it."""


def connect(url: str, timeout_s: float) -> AsyncRegisteringTransport:
    """The transport for a URL (see `Address`).

    Args:
        timeout_s: the longest that a call will be given.

    Raises:
        InvalidUrlError: not the address of a Triton.
        MissingExtraError: an HTTP address, without the extra `http`.
    """
    address = Address.of(url)
    return (AsyncGrpcTransport if address.grpc else AsyncHttpTransport)(address, timeout_s)


class _Common:
    """What the two protocols share; each has its own `_client`."""

    _client: Any
    _broken: tuple[type[Exception], ...] = ()

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s

    async def register(self, region: Region) -> None:
        """See `AsyncRegisteringTransport`."""
        with self._errors(self._timeout_s):
            await self._client.register_system_shared_memory(region.name, region.key, region.size)

    async def unregister(self, region: Region) -> None:
        """See `AsyncRegisteringTransport`."""
        with self._errors(self._timeout_s):
            await self._client.unregister_system_shared_memory(region.name)

    async def close(self) -> None:
        """See `AsyncTransport`."""
        if "_client" in vars(self):  # made at the first call
            await self._client.close()

    def _errors(self, timeout_s: float) -> AbstractContextManager[None]:
        return translating(self._address.netloc, timeout_s, self._broken)


class AsyncGrpcTransport(_Common):
    """gRPC; one channel."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        from tritonclient.grpc import aio

        super().__init__(address, timeout_s)
        self._module = aio

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors(timeout_s):
            result = await self._client.infer(
                call.model, inputs, outputs=outputs, client_timeout=timeout_s, timeout=microseconds(timeout_s)
            )
        return arrays(result, call)

    @cached_property
    def _client(self) -> Any:  # needs a running event loop
        return self._module.InferenceServerClient(
            self._address.netloc, ssl=self._address.tls, channel_args=CHANNEL_ARGUMENTS
        )


class AsyncHttpTransport(_Common):
    """HTTP; a pool with as many connections as there are concurrent calls."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address, timeout_s)
        self._module = http_module("tritonclient.http.aio")
        self._broken = (http_module("aiohttp").ClientError,)

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        answer = self._client.infer(call.model, inputs, outputs=outputs, timeout=microseconds(timeout_s))
        with self._errors(timeout_s):
            result = await asyncio.wait_for(answer, timeout_s)
        return arrays(result, call)

    @cached_property
    def _client(self) -> Any:  # needs a running event loop
        return self._module.InferenceServerClient(
            self._address.netloc, ssl=self._address.tls, ssl_context=True, conn_limit=0, conn_timeout=None
        )
