"""What the backend can do at the moment. Concurrent callers share one question to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sam3_triton import Sam3Error, ServedModel

from sam3_gateway.backend import Backend

T = TypeVar("T")
# Each question is a request to the backend, so callers within this time share one.
_ASK_EVERY_S = 1.0


class Recent(Generic[T]):
    """An answer of the backend that is at most a second old."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._answers: list[T] = []
        self._stale_at = float("-inf")

    async def get(self) -> T:
        """Returns the answer, and asks for it if the last one is too old. What asking raises is not kept."""
        async with self._lock:
            if time.monotonic() >= self._stale_at:
                self._answers = [await self._ask()]
                self._stale_at = time.monotonic() + _ASK_EVERY_S
            return self._answers[0]


class Readiness:
    """Knows which model is ready, if one is, so that the backend is probed at most once a second."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._model = Recent(self._probe)

    async def check(self) -> ServedModel | None:
        """Returns the model that answered a probe at most a second ago; None if no mask came back."""
        return await self._model.get()

    async def _probe(self) -> ServedModel | None:
        try:
            return await self._backend.probe()
        except Sam3Error:
            return None
