"""Sends images through system shared memory, for clients that share /dev/shm with Triton.

These transports wrap another one. They write a large image into a shared-memory region that is registered with the
server, and the call refers to that region. Regions are reused, so there are only as many as concurrent calls.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from tritonclient.utils import serialize_byte_tensor

from sam3_triton.async_transport import AsyncRegisteringTransport
from sam3_triton.errors import (
    ImageNotCachedError,
    InvalidInputError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)
from sam3_triton.transport import RegisteringTransport
from sam3_triton.wire import Arrays, Call, Region

_IMAGE = "IMAGE"
# Below this size gRPC is about as fast. Measured: x 0.7 for 0.5 MB, x 0.4 for 4 MB and more (the benchmarks' uploads).
_WORTH_BYTES = 256 * 1024
# From Triton's message for a region that it does not know, because it was restarted.
_FORGOTTEN = "shared memory region"


class _Regions:
    """A pool of free regions, safe to share between threads."""

    def __init__(self) -> None:
        from tritonclient.utils import shared_memory

        self._module = shared_memory
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._handles: dict[str, Any] = {}

    def put(self, image: np.ndarray) -> Region:
        """Writes an image, BYTES [1], into a free region that is large enough, or into a new one."""
        data = serialize_byte_tensor(image)
        used = len(data.item())
        with self._lock:
            fitting = [region for region in self._free if region.size >= used]
            region = min(fitting, key=lambda region: region.size, default=None)
            if region is None:
                region = self._create(1 << (used - 1).bit_length())
            else:
                self._free.remove(region)
        self._module.set_shared_memory_region(self._handles[region.name], [data])
        region.used = used
        return region

    def give_back(self, region: Region) -> None:
        """Frees a region. A cancelled call may still read it, which is harmless: its answer is discarded."""
        with self._lock:
            self._free.append(region)

    def take_all(self) -> list[Region]:
        """Removes all free regions from the pool and returns them."""
        with self._lock:
            taken, self._free = self._free, []
            return taken

    def destroy(self, region: Region) -> None:
        """Removes a region from /dev/shm."""
        self._module.destroy_shared_memory_region(self._handles.pop(region.name))

    def _create(self, size: int) -> Region:
        # With the process id in the name, `sam3 doctor` can find regions of processes that have ended.
        region = Region(f"sam3_client_{os.getpid()}_{uuid.uuid4().hex}", size)
        self._handles[region.name] = self._module.create_shared_memory_region(region.name, region.key, size)
        return region


class SharedMemoryTransport:
    """A `Transport` that sends large images through shared memory."""

    def __init__(self, inner: RegisteringTransport) -> None:
        self._inner = inner
        self._regions = _Regions()

    def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `Transport`."""
        if not _is_worth_it(call):
            return self._inner.infer(call, timeout_s)
        region = self._regions.put(call.inputs[_IMAGE])
        try:
            self._register(region)
            try:
                return self._inner.infer(_through(region, call), timeout_s)
            except ImageNotCachedError as error:  # NOT_FOUND may also mean that the region is unknown
                if _FORGOTTEN not in str(error):
                    raise
                region.registered = False
                self._register(region)
                return self._inner.infer(_through(region, call), timeout_s)
        finally:
            self._regions.give_back(region)

    def close(self) -> None:
        """See `Transport`."""
        for region in self._regions.take_all():
            with suppress(Sam3Error):  # the server is gone, and its regions with it
                self._inner.unregister(region)
            self._regions.destroy(region)
        self._inner.close()

    def _register(self, region: Region) -> None:
        if not region.registered:
            try:
                self._inner.register(region)
            except (InvalidInputError, PredictionError) as error:
                raise _not_shared(error) from error
            region.registered = True


class AsyncSharedMemoryTransport:
    """An `AsyncTransport` that sends large images through shared memory."""

    def __init__(self, inner: AsyncRegisteringTransport) -> None:
        self._inner = inner
        self._regions = _Regions()

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        """See `AsyncTransport`."""
        if not _is_worth_it(call):
            return await self._inner.infer(call, timeout_s)
        region = self._regions.put(call.inputs[_IMAGE])
        try:
            await self._register(region)
            try:
                return await self._inner.infer(_through(region, call), timeout_s)
            except ImageNotCachedError as error:  # NOT_FOUND may also mean that the region is unknown
                if _FORGOTTEN not in str(error):
                    raise
                region.registered = False
                await self._register(region)
                return await self._inner.infer(_through(region, call), timeout_s)
        finally:
            self._regions.give_back(region)

    async def close(self) -> None:
        """See `AsyncTransport`."""
        for region in self._regions.take_all():
            with suppress(Sam3Error):
                await self._inner.unregister(region)
            self._regions.destroy(region)
        await self._inner.close()

    async def _register(self, region: Region) -> None:
        if not region.registered:
            try:
                await self._inner.register(region)
            except (InvalidInputError, PredictionError) as error:
                raise _not_shared(error) from error
            region.registered = True


def _is_worth_it(call: Call) -> bool:
    image = call.inputs.get(_IMAGE)
    return image is not None and len(image[0]) >= _WORTH_BYTES


def _through(region: Region, call: Call) -> Call:
    others = {name: array for name, array in call.inputs.items() if name != _IMAGE}
    return replace(call, inputs=others, shared={_IMAGE: region})


def _not_shared(error: Sam3Error) -> ServerUnavailableError:
    return ServerUnavailableError(f"shared memory needs a Triton that shares this host's /dev/shm: {error}")
