"""Policy of the embedding cache: what is kept, who waits for whom. Knows nothing of Triton."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar


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
    """As many images as allowed are in flight."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a cache; each is a parameter of the same name in the model's config.

    Raises:
        ValueError: a bound that makes no sense.
    """

    cache_bytes: int
    """Bytes of embeddings to keep at most; 0 keeps none."""
    max_inflight_encodes: int
    """Images being encoded or waiting for it at one time, at least 1; a miss beyond it is refused."""
    max_concurrent_encodes: int
    """How many of those are handed to the encoder at one time, at least 1; the others can still be dropped."""
    ttl_seconds: float = 0.0
    """Seconds after which an embedding is encoded anew; 0: never."""

    def __post_init__(self) -> None:
        for name, _, least in _PARAMETERS:
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}: {getattr(self, name)}")

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Limits:
        """The bounds from a config's parameters, which are text; others among them are left alone.

        Raises:
            ValueError: one is missing, not a number, or makes no sense.
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
)


def _counter(help_text: str) -> Any:
    return field(default=0, metadata={"help": help_text, "gauge": False})


def _gauge(help_text: str) -> Any:
    return field(default=0, metadata={"help": help_text, "gauge": True})


@dataclass
class CacheStats:
    """Counts since the start, and gauges of what is now; each field's metadata holds its `help` text."""

    hits: int = _counter("Requests answered from the cache")
    misses: int = _counter("Requests that asked for an encode")
    coalesced: int = _counter("Requests that joined an encode that another one had asked for")
    rejected: int = _counter("Requests refused because max_inflight_encodes images were in flight")
    not_found: int = _counter("Requests with an id alone that was not cached")
    encodes: int = _counter("Encodes that succeeded")
    encode_seconds: float = _counter("Seconds between the start and the end of successful encodes")
    failures: int = _counter("Encodes that failed")
    abandoned: int = _counter("Encodes dropped before their start, because nobody waited for them any more")
    evictions: int = _counter("Images dropped to stay within cache_bytes")
    expirations: int = _counter("Images dropped because they were older than ttl_seconds")
    entries: int = _gauge("Images in the cache")
    bytes: int = _gauge("Bytes of embeddings in the cache")
    capacity_bytes: int = _gauge("Bytes of embeddings that the cache may hold (cache_bytes)")
    inflight: int = _gauge("Images being encoded or waiting for it")


@dataclass(frozen=True)
class Admission(Generic[Embedding]):
    """What becomes of a request: an embedding is a hit; without one its waiter is told later."""

    embedding: Embedding | None
    must_encode: bool


@dataclass(frozen=True)
class _Entry(Generic[Embedding]):
    embedding: Embedding
    born: float


@dataclass
class _Flight(Generic[Waiter]):
    """An image on its way into the cache, and who waits for it."""

    image: bytes
    waiters: list[Waiter]
    begun: bool = False


def image_id(image: bytes) -> str:
    """The key of an image: sha256 of its encoded bytes, lowercase hex."""
    return hashlib.sha256(image).hexdigest()


class EmbeddingCache(Generic[Embedding, Waiter]):
    """Byte-bounded, least recently used first out, with a single flight for each key. Thread-safe.

    The way of a miss: `admit` says `must_encode`, so the caller sees to it that somebody asks `begin` once, which hands
    out an image to encode; that ends with one `complete` or `fail`. Each waiter is handed out exactly once: by
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
        """Looks a key up; where it is missing, makes `waiter` wait for it.

        Args:
            image: what to encode where the key is missing; None where the caller has the key alone.

        Raises:
            NotCachedError: missing, not in flight, and no image.
            BusyError: missing, and no further key may be in flight.
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
        """The key and image that have waited longest for their encode; None where all who waited have left."""
        with self._lock:
            for key, flight in self._flights.items():
                if not flight.begun:
                    flight.begun = True
                    return key, flight.image
            return None

    def waiting(self) -> list[tuple[str, Waiter]]:
        """Everyone who waits at this moment, with the key they wait for."""
        with self._lock:
            return [(key, waiter) for key, flight in self._flights.items() for waiter in flight.waiters]

    def leave(self, key: str, waiter: Waiter) -> bool:
        """Takes a waiter out; false where it has been handed out already.

        An encode that nobody waits for any more is dropped where it has not begun; else its result is kept.
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
        """Keeps an embedding that took `seconds` to encode and hands out who waits for it.

        One that is larger than the whole budget is not kept.
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
        """Forgets a key whose encode failed and hands out who waits for it."""
        with self._lock:
            self._stats.failures += 1
            return self._flights.pop(key).waiters

    def expire(self) -> None:
        """Frees what is older than the time to live, also where nobody asks for it any more."""
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
