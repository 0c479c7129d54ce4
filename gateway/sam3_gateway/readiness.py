"""Triton's readiness. Concurrent health checks share one probe."""

from __future__ import annotations

import asyncio
import time

from sam3_gateway.backend import Backend

# Each probe is a click, so health checks within this time share one.
_PROBE_EVERY_S = 1.0


class Readiness:
    """Caches whether the backend is ready, so that it is probed at most once a second."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = asyncio.Lock()
        self._ready = False
        self._stale_at = float("-inf")

    async def check(self) -> bool:
        """Returns the result of a probe that is at most a second old."""
        async with self._lock:
            if time.monotonic() >= self._stale_at:
                self._ready = await self._backend.is_ready()
                self._stale_at = time.monotonic() + _PROBE_EVERY_S
            return self._ready
