"""Triton's readiness. Concurrent health checks share one probe."""

from __future__ import annotations

import asyncio
import time

from sam3_triton import Sam3Error, ServedModel

from sam3_gateway.backend import Backend

# Each probe is a click, so health checks within this time share one.
_PROBE_EVERY_S = 1.0


class Readiness:
    """Caches which model is ready, if one is, so that the backend is probed at most once a second."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = asyncio.Lock()
        self._model: ServedModel | None = None
        self._stale_at = float("-inf")

    async def check(self) -> ServedModel | None:
        """Returns the model that answered a probe at most a second ago; None if no mask came back."""
        async with self._lock:
            if time.monotonic() >= self._stale_at:
                self._model = await self._probe()
                self._stale_at = time.monotonic() + _PROBE_EVERY_S
            return self._model

    async def _probe(self) -> ServedModel | None:
        try:
            return await self._backend.probe()
        except Sam3Error:
            return None
