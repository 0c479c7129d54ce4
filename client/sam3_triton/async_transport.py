"""Transports for asyncio: send calls to Triton over gRPC or HTTP."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol

from sam3_triton import channels
from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import Address, Arrays, Call, Region, arrays, microseconds, tensors


class AsyncTransport(Protocol):
    """Sends calls to Triton. It is bound to the event loop that first uses it."""

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Sends a call and its timeout, and returns the outputs. Cancelling it cancels the request.

        Raises only this package's errors.
        """

    async def close(self) -> None:
        """Closes the connections."""


class AsyncRegisteringTransport(AsyncTransport, Protocol):
    """A transport that can also register shared memory. Its methods raise only this package's errors."""

    async def register(self, region: Region) -> None:
        """Registers a region with the server."""

    async def unregister(self, region: Region) -> None:
        """Unregisters a region."""


def connect(url: str, timeout_s: float) -> AsyncRegisteringTransport:
    """Returns the transport for a URL (see `Address`).

    Args:
        timeout_s: the longest timeout of any call, in seconds.

    Raises:
        InvalidUrlError: the URL is invalid.
        MissingExtraError: the URL is an HTTP one, and the extra `http` is not installed.
    """
    address = Address.of(url)
    return (AsyncGrpcTransport if address.grpc else AsyncHttpTransport)(address, timeout_s)


class _Common:
    """Common base of the two transports, each of which has its own `_client`."""

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

    def _errors(self, timeout_s: float) -> AbstractContextManager[None]:
        return translating(self._address.netloc, timeout_s, self._broken)


class AsyncGrpcTransport(_Common):
    """gRPC; one channel at a time."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        from tritonclient.grpc import aio

        super().__init__(address, timeout_s)
        self._module = aio
        self._renewing = channels.Renewing(
            lambda: aio.InferenceServerClient(address.netloc, ssl=address.tls, channel_args=channels.ARGUMENTS)
        )

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors(timeout_s):
            result = await self._client.infer(
                call.model,
                inputs,
                outputs=outputs,
                client_timeout=timeout_s,
                timeout=microseconds(timeout_s),
                headers=call.headers,
            )
        return arrays(result, call)

    async def close(self) -> None:
        """See `AsyncTransport`."""
        if self._renewing.current is not None:
            await self._renewing.current.close()

    @property
    def _client(self) -> Any:  # needs a running event loop
        return self._renewing.client()


class AsyncHttpTransport(_Common):
    """HTTP; a pool with one connection for each concurrent call."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        super().__init__(address, timeout_s)
        self._module = http_module("tritonclient.http.aio")
        self._broken = (http_module("aiohttp").ClientError,)

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        answer = self._client.infer(
            call.model, inputs, outputs=outputs, timeout=microseconds(timeout_s), headers=call.headers
        )
        with self._errors(timeout_s):
            result = await asyncio.wait_for(answer, timeout_s)
        return arrays(result, call)

    async def close(self) -> None:
        """See `AsyncTransport`."""
        if "_client" in vars(self):  # created by the first call
            await self._client.close()

    @cached_property
    def _client(self) -> Any:  # needs a running event loop
        return self._module.InferenceServerClient(
            self._address.netloc, ssl=self._address.tls, ssl_context=True, conn_limit=0, conn_timeout=None
        )
