"""How calls reach Triton, over gRPC or HTTP, from an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Protocol

from tritonclient.utils import InferenceServerException

from sam3_triton.errors import DeadlineExceededError
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


class AsyncTransport(Protocol):
    """How calls reach Triton; it belongs to the event loop that it is first used in."""

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """Makes a call; the server is told the timeout too. Cancelling it cancels what is under way.

        Raises an error of this package, and no other.
        """

    async def close(self) -> None:
        """Closes the connections."""


class AsyncRegisteringTransport(AsyncTransport, Protocol):
    """A transport that can also tell the server of shared memory; each method raises this package's errors alone."""

    async def register(self, region: Region) -> None:
        """Tells the server of a region."""

    async def unregister(self, region: Region) -> None:
        """Has the server forget it."""


def connect(url: str) -> AsyncRegisteringTransport:
    """The transport for a URL (see `Address`).

    Raises:
        InvalidInputError: no address of a Triton.
    """
    address = Address.of(url)
    return AsyncGrpcTransport(address) if address.grpc else AsyncHttpTransport(address)


class _Common:
    """What the two protocols have in common; each has its own `_client`, and its own `_errors` to translate."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    async def register(self, region: Region) -> None:
        """See `AsyncRegisteringTransport`."""
        with self._errors():
            await self._client.register_system_shared_memory(region.name, region.key, region.size)

    async def unregister(self, region: Region) -> None:
        """See `AsyncRegisteringTransport`."""
        with self._errors():
            await self._client.unregister_system_shared_memory(region.name)

    async def close(self) -> None:
        """See `AsyncTransport`."""
        if "_client" in vars(self):  # it is made when it is first used
            await self._client.close()


class AsyncGrpcTransport(_Common):
    """gRPC; one channel."""

    def __init__(self, address: Address) -> None:
        from tritonclient.grpc import aio

        self._module = aio
        self._address = address

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        with self._errors():
            result = await self._client.infer(
                call.model, inputs, outputs=outputs, client_timeout=timeout_s, timeout=microseconds(timeout_s)
            )
        return arrays(result, call)

    @cached_property
    def _client(self) -> Any:  # needs a running event loop
        return self._module.InferenceServerClient(
            self._address.netloc, ssl=self._address.tls, channel_args=CHANNEL_ARGUMENTS
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise translated(error, self._address.netloc) from error


class AsyncHttpTransport(_Common):
    """HTTP; a pool of connections, as many as there are calls at one time."""

    def __init__(self, address: Address) -> None:
        import aiohttp
        from tritonclient.http import aio

        self._module = aio
        self._broken = aiohttp.ClientError
        self._address = address

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        inputs, outputs = tensors(self._module, call)
        answer = self._client.infer(call.model, inputs, outputs=outputs, timeout=microseconds(timeout_s))
        with self._errors():
            try:
                result = await asyncio.wait_for(answer, timeout_s)
            except asyncio.TimeoutError as error:  # until Python 3.11 not TimeoutError
                raise late(self._address.netloc, timeout_s) from error
        return arrays(result, call)

    @cached_property
    def _client(self) -> Any:  # needs a running event loop
        return self._module.InferenceServerClient(
            self._address.netloc, ssl=self._address.tls, ssl_context=True, conn_limit=0, conn_timeout=None
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise translated(error, self._address.netloc) from error
        except DeadlineExceededError:
            raise
        except (OSError, self._broken) as error:
            raise unreachable(self._address.netloc, error) from error
