"""Policy of the embedding cache: what it keeps, and who waits for which encode. Independent of Triton."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from published_counts import counter, gauge


class Sized(Protocol):
    """Anything that knows its size in bytes; the cache keeps these."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


Embedding = TypeVar("Embedding", bound=Sized)
Waiter = TypeVar("Waiter")


class NotCachedError(LookupError):
    """The image is neither in the store nor being encoded, and its bytes were not given."""


class BusyError(RuntimeError):
    """The largest allowed number of images is in flight."""


@dataclass(frozen=True)
class Limits:
    """The bounds of the model; each is a parameter of the same name in its config.

    Raises:
        ValueError: a bound is too small.
    """

    cache_bytes: int
    """Maximum bytes of embeddings to keep; 0 keeps none."""
    max_inflight_encodes: int
    """Maximum number of images being encoded or waiting for it, at least 1; further misses are refused."""
    max_concurrent_encodes: int
    """Maximum number of images given to the encoder at one time, at least 1; those that wait can still be dropped."""
    ttl_seconds: float = 0.0
    """Seconds after which an embedding expires; 0: never."""
    max_objects: int = 32
    """Maximum number of objects in a prompt, at least 1. It bounds the decoder's memory."""

    def __post_init__(self) -> None:
        for name, _, least in _PARAMETERS:
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}: {getattr(self, name)}")

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Limits:
        """Reads the bounds from a config's parameters, which are text; ignores other parameters.

        Raises:
            ValueError: a bound is missing, not a number, or too small.
        """
        values: dict[str, Any] = {}
        for name, kind, _ in _PARAMETERS:
            try:
                values[name] = kind(texts[name])
            except KeyError:
                raise ValueError(f"the parameter {name} is missing") from None
            except ValueError:
                raise ValueError(f"the parameter {name} must be a number, not {texts[name]!r}") from None
        return cls(**values)


# Name, type and least value.
_PARAMETERS: tuple[tuple[str, type, int], ...] = (
    ("cache_bytes", int, 0),
    ("max_inflight_encodes", int, 1),
    ("max_concurrent_encodes", int, 1),
    ("ttl_seconds", float, 0),
    ("max_objects", int, 1),
)


@dataclass
class CacheStats:
    """Counts since the start, and gauges of the current state; each field's metadata holds its `help` text."""

    hits: int = counter("Requests answered from the cache")
    misses: int = counter("Requests that asked for an encode")
    coalesced: int = counter("Requests that joined an encode of another request")
    rejected: int = counter("Requests refused because max_inflight_encodes images were in flight")
    not_found: int = counter("Requests with only an id, of an image that was not cached")
    encodes: int = counter("Encodes that succeeded")
    encode_seconds: float = counter("Seconds between the start and the end of successful encodes")
    failures: int = counter("Encodes that failed")
    abandoned: int = counter("Encodes dropped before their start, because no request waited for them any more")
    evictions: int = counter("Images dropped to stay within cache_bytes")
    expirations: int = counter("Images dropped because they were older than ttl_seconds")
    entries: int = gauge("Images in the cache")
    bytes: int = gauge("Bytes of embeddings in the cache")
    capacity_bytes: int = gauge("Bytes of embeddings that the cache may hold (cache_bytes)")
    inflight: int = gauge("Images being encoded or waiting for it")


@dataclass(frozen=True)
class Admission(Generic[Embedding]):
    """The result of `admit`: the embedding on a hit; None if the waiter is answered later."""

    embedding: Embedding | None
    must_encode: bool


@dataclass(frozen=True)
class _Entry(Generic[Embedding]):
    embedding: Embedding
    born: float


@dataclass
class _Flight(Generic[Waiter]):
    """An image that is being encoded or waits for it, and who waits for the result."""

    image: bytes
    waiters: list[Waiter]
    begun: bool = False


def image_id(image: bytes) -> str:
    """The key of an image: sha256 of its encoded bytes, lowercase hex."""
    return hashlib.sha256(image).hexdigest()


class EmbeddingCache(Generic[Embedding, Waiter]):
    """An LRU cache bounded in bytes, with at most one encode in flight for each key. Thread-safe.

    On a miss, `admit` returns `must_encode`. The caller must then arrange one call of `begin`, which returns an image
    to encode, and end that encode with one call of `complete` or `fail`. Each waiter is handed back exactly once: by
    `complete`, by `fail`, or by `leave`.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry[Embedding]] = OrderedDict()  # least recently used first
        self._flights: dict[str, _Flight[Waiter]] = {}
        self._stats = CacheStats(capacity_bytes=limits.cache_bytes)

    @property
    def stats(self) -> CacheStats:
        """A copy of the counts."""
        with self._lock:
            return replace(self._stats, entries=len(self._entries), inflight=len(self._flights))

    def admit(self, key: str, waiter: Waiter, image: bytes | None) -> Admission[Embedding]:
        """Looks up a key; on a miss, makes `waiter` wait for it.

        Args:
            image: the image to encode on a miss; None if the caller has only the key.

        Raises:
            NotCachedError: the key is neither cached nor in flight, and there is no image.
            BusyError: the key is neither cached nor in flight, and no further key may be in flight.
        """
        with self._lock:
            if key in self._entries and self._is_expired(self._entries[key]):
                self._expire(key)
            if key in self._entries:
                self._entries.move_to_end(key)
                self._stats.hits += 1
                return Admission(self._entries[key].embedding, must_encode=False)
            if key in self._flights:
                self._flights[key].waiters.append(waiter)
                self._stats.coalesced += 1
                return Admission(None, must_encode=False)
            if image is None:
                self._stats.not_found += 1
                raise NotCachedError(key)
            if len(self._flights) >= self._limits.max_inflight_encodes:
                self._stats.rejected += 1
                raise BusyError(f"{self._limits.max_inflight_encodes} images are being encoded or wait for it")
            self._flights[key] = _Flight(image, [waiter])
            self._stats.misses += 1
            return Admission(None, must_encode=True)

    def begin(self) -> tuple[str, bytes] | None:
        """Takes the key and image that have waited longest for their encode; None if all waiters have left."""
        with self._lock:
            for key, flight in self._flights.items():
                if not flight.begun:
                    flight.begun = True
                    return key, flight.image
            return None

    def waiting(self) -> list[tuple[str, Waiter]]:
        """All current waiters, each with its key."""
        with self._lock:
            return [(key, waiter) for key, flight in self._flights.items() for waiter in flight.waiters]

    def leave(self, key: str, waiter: Waiter) -> bool:
        """Removes a waiter; returns false if it has already been handed back.

        An encode without waiters is dropped if it has not begun; otherwise its result is kept.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or waiter not in flight.waiters:
                return False
            flight.waiters.remove(waiter)
            if not flight.waiters and not flight.begun:
                del self._flights[key]
                self._stats.abandoned += 1
            return True

    def complete(self, key: str, embedding: Embedding, seconds: float) -> list[Waiter]:
        """Keeps an embedding that took `seconds` to encode, and hands back its waiters.

        An embedding larger than the whole budget is not kept.
        """
        with self._lock:
            self._stats.encodes += 1
            self._stats.encode_seconds += seconds
            if embedding.nbytes <= self._limits.cache_bytes:
                while self._stats.bytes + embedding.nbytes > self._limits.cache_bytes:
                    self._drop(next(iter(self._entries)))
                    self._stats.evictions += 1
                self._entries[key] = _Entry(embedding, self._clock())
                self._stats.bytes += embedding.nbytes
            return self._flights.pop(key).waiters

    def fail(self, key: str) -> list[Waiter]:
        """Forgets a key whose encode failed, and hands back its waiters."""
        with self._lock:
            self._stats.failures += 1
            return self._flights.pop(key).waiters

    def expire(self) -> None:
        """Drops embeddings older than the time to live, even if nobody asks for them any more."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if self._is_expired(entry)]:
                self._expire(key)

    def _is_expired(self, entry: _Entry[Embedding]) -> bool:
        return 0 < self._limits.ttl_seconds <= self._clock() - entry.born

    def _expire(self, key: str) -> None:
        self._drop(key)
        self._stats.expirations += 1

    def _drop(self, key: str) -> None:
        self._stats.bytes -= self._entries.pop(key).embedding.nbytes
