"""The store of the text cache: keeps the features of the texts used last. Independent of Triton."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Features = TypeVar("Features")
Waiter = TypeVar("Waiter")


class TextFeatures(Generic[Features, Waiter]):
    """Keeps the features of at most `capacity` texts, least recently used out first. Thread-safe.

    Callers that ask for one new text share one encode. A failed encode is not kept.
    """

    def __init__(self, capacity: int) -> None:
        """
        Raises:
            ValueError: `capacity` is negative.
        """
        if capacity < 0:
            raise ValueError(f"the parameter max_texts must be at least 0, not {capacity}")
        self._capacity = capacity
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Features] = OrderedDict()
        self._waiting: dict[bytes, list[Waiter]] = {}

    def ask(self, key: bytes, waiter: Waiter) -> tuple[Features | None, bool]:
        """The features of a text; or None, then `waiter` waits and the second value says whether to encode."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], False
            waiting = self._waiting.setdefault(key, [])
            waiting.append(waiter)
            return None, len(waiting) == 1

    def complete(self, key: bytes, features: Features) -> list[Waiter]:
        """Keeps the features of a text and returns who waited for them."""
        with self._lock:
            self._kept[key] = features
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
            return self._waiting.pop(key)

    def fail(self, key: bytes) -> list[Waiter]:
        """Ends an encode that failed and returns who waited for it."""
        with self._lock:
            return self._waiting.pop(key)
