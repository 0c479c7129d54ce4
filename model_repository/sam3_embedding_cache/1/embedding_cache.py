"""Policy of the embedding cache: what is kept, who waits for whom. Knows nothing of Triton."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar


class Sized(Protocol):
    """What the cache keeps: anything that knows its size in bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""


Embedding = TypeVar("Embedding", bound=Sized)
Waiter = TypeVar("Waiter")


class NotCachedError(LookupError):
    """The image is neither in the store nor being encoded, and its bytes were not given."""


class BusyError(RuntimeError):
    """As many images as allowed are being encoded."""


@dataclass
class CacheStats:
    """Counts since the start, and (`entries`, `bytes`) what is kept now."""

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    evictions: int = 0
    failures: int = 0
    rejected: int = 0
    encode_seconds: float = 0.0
    entries: int = 0
    bytes: int = 0


class Admission(NamedTuple, Generic[Embedding]):
    """What becomes of a request: an embedding is a hit; without one its waiter is told later."""

    embedding: Embedding | None
    must_encode: bool


def image_id(image: bytes) -> str:
    """The key of an image: sha256 of its encoded bytes, lowercase hex."""
    return hashlib.sha256(image).hexdigest()


class EmbeddingCache(Generic[Embedding, Waiter]):
    """Byte-bounded, least recently used first out, with a single flight for each key. Thread-safe.

    Each `admit` that answers with `must_encode` is followed by one `complete` or `fail` for its key,
    which hand back everybody who waits for it, the first one included.
    """

    def __init__(self, capacity_bytes: int, max_inflight: int) -> None:
        """
        Args:
            capacity_bytes: bytes of embeddings to keep at most; 0 keeps none.
            max_inflight: keys that may be in flight at one time, at least 1.

        Raises:
            ValueError: a bound that makes no sense.
        """
        if capacity_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative: {capacity_bytes}")
        if max_inflight < 1:
            raise ValueError(f"max_inflight_encodes must be at least 1: {max_inflight}")
        self._capacity_bytes = capacity_bytes
        self._max_inflight = max_inflight
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Embedding] = OrderedDict()  # least recently used first
        self._inflight: dict[str, list[Waiter]] = {}
        self._stats = CacheStats()

    @property
    def stats(self) -> CacheStats:
        """A copy of the counts."""
        with self._lock:
            return replace(self._stats)

    def admit(self, key: str, waiter: Waiter, may_encode: bool) -> Admission[Embedding]:
        """Looks a key up; where it is missing, makes `waiter` wait for it.

        Args:
            may_encode: whether the caller has the image and can be asked to encode it.

        Raises:
            NotCachedError: missing, not in flight, and `may_encode` is false.
            BusyError: missing, and no further key may be in flight.
        """
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self._stats.hits += 1
                return Admission(self._entries[key], must_encode=False)
            if key in self._inflight:
                self._inflight[key].append(waiter)
                self._stats.coalesced += 1
                return Admission(None, must_encode=False)
            if not may_encode:
                raise NotCachedError(key)
            if len(self._inflight) >= self._max_inflight:
                self._stats.rejected += 1
                raise BusyError(f"{self._max_inflight} images are being encoded")
            self._inflight[key] = [waiter]
            self._stats.misses += 1
            return Admission(None, must_encode=True)

    def complete(self, key: str, embedding: Embedding, seconds: float) -> list[Waiter]:
        """Keeps an embedding that took `seconds` to encode and hands back who waits for it.

        One that is larger than the whole budget is not kept.
        """
        with self._lock:
            self._stats.encode_seconds += seconds
            if embedding.nbytes <= self._capacity_bytes:
                self._entries[key] = embedding
                self._stats.bytes += embedding.nbytes
                while self._stats.bytes > self._capacity_bytes:
                    _, oldest = self._entries.popitem(last=False)
                    self._stats.bytes -= oldest.nbytes
                    self._stats.evictions += 1
            self._stats.entries = len(self._entries)
            return self._inflight.pop(key)

    def fail(self, key: str) -> list[Waiter]:
        """Forgets a key whose encode failed and hands back who waits for it."""
        with self._lock:
            self._stats.failures += 1
            return self._inflight.pop(key)
