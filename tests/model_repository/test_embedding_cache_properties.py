"""The cache's promises, over random sequences of operations and over threads."""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass

import pytest
from embedding_cache import BusyError, EmbeddingCache, Limits, NotCachedError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

KEYS = st.sampled_from("abcdef")


@dataclass(frozen=True)
class Entry:
    nbytes: int
    key: str


class CacheMachine(RuleBasedStateMachine):
    """Any sequence of callers, encoders and clock ticks, compared with the simplest model that could be right."""

    encodes = Bundle("encodes")
    waiters = Bundle("waiters")

    @initialize(budget=st.integers(0, 40), inflight=st.integers(1, 4), ttl=st.sampled_from([0.0, 5.0]))
    def start(self, budget: int, inflight: int, ttl: float) -> None:
        self.now = 0.0
        self.limits = Limits(budget, inflight, 1, ttl)
        self.cache: EmbeddingCache[Entry, int] = EmbeddingCache(self.limits, lambda: self.now)
        self.tickets = itertools.count()
        self.kept: OrderedDict[str, tuple[Entry, float]] = OrderedDict()  # least recently used first
        self.flying: dict[str, set[int]] = {}
        self.begun: set[str] = set()
        self.asked = self.answered = 0

    def _forget_the_old(self, key: str | None = None) -> None:
        for name in [key] if key else list(self.kept):
            if (
                self.limits.ttl_seconds
                and name in self.kept
                and self.now - self.kept[name][1] >= self.limits.ttl_seconds
            ):
                del self.kept[name]

    @rule(target=waiters, key=KEYS, has_image=st.booleans())
    def ask(self, key: str, has_image: bool):
        self._forget_the_old(key)
        ticket = next(self.tickets)
        self.asked += 1
        try:
            admission = self.cache.admit(key, ticket, key.encode() if has_image else None)
        except NotCachedError:
            assert not has_image
            assert key not in self.kept
            assert key not in self.flying
        except BusyError:
            assert key not in self.kept
            assert key not in self.flying
            assert len(self.flying) == self.limits.max_inflight_encodes
        else:
            embedding = admission.embedding
            assert (embedding is not None) == (key in self.kept)
            if embedding is not None:
                assert embedding is self.kept[key][0]
                assert embedding.key == key
                self.kept.move_to_end(key)
            else:
                assert admission.must_encode == (key not in self.flying)
                self.flying.setdefault(key, set()).add(ticket)
                return (key, ticket)
        self.answered += 1
        return multiple()

    @rule(target=encodes)
    def begin(self):
        taken = self.cache.begin()
        if taken is None:
            assert set(self.flying) == self.begun
            return multiple()
        key, image = taken
        assert image == key.encode()
        assert key in self.flying
        assert key not in self.begun
        self.begun.add(key)
        return key

    @rule(waiter=waiters)
    def leave(self, waiter: tuple[str, int]) -> None:
        key, ticket = waiter
        waits = ticket in self.flying.get(key, ())
        assert self.cache.leave(key, ticket) == waits
        if waits:
            self.answered += 1
            self.flying[key].remove(ticket)
            if not self.flying[key] and key not in self.begun:
                del self.flying[key]

    @rule(key=consumes(encodes), nbytes=st.integers(0, 45), fails=st.booleans())
    def end(self, key: str, nbytes: int, fails: bool) -> None:
        entry = Entry(nbytes, key)
        handed_out = self.cache.fail(key) if fails else self.cache.complete(key, entry, 1.0)
        assert len(handed_out) == len(set(handed_out))
        assert set(handed_out) == self.flying.pop(key)
        self.begun.remove(key)
        self.answered += len(handed_out)
        if not fails and nbytes <= self.limits.cache_bytes:
            while sum(kept.nbytes for kept, _ in self.kept.values()) + nbytes > self.limits.cache_bytes:
                self.kept.popitem(last=False)
            self.kept[key] = (entry, self.now)

    @rule(seconds=st.sampled_from([1.0, 3.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.cache.expire()
        self._forget_the_old()

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "cache"):
            return
        stats = self.cache.stats
        assert stats.bytes <= self.limits.cache_bytes
        assert stats.bytes == sum(entry.nbytes for entry, _ in self.kept.values())
        assert stats.entries == len(self.kept)
        assert stats.inflight == len(self.flying) <= self.limits.max_inflight_encodes
        turned_away = stats.rejected + stats.not_found
        assert stats.hits + stats.misses + stats.coalesced + turned_away == self.asked
        assert stats.misses == stats.encodes + stats.failures + stats.abandoned + stats.inflight
        assert stats.encodes >= stats.entries + stats.evictions + stats.expirations
        waiting = [(key, ticket) for key, tickets in self.flying.items() for ticket in tickets]
        assert sorted(self.cache.waiting()) == sorted(waiting)
        assert self.asked - self.answered == len(waiting)


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnySequence = CacheMachine.TestCase


@pytest.fixture
def restless_threads():
    """Makes threads switch a hundred times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("restless_threads")
def test_threads_never_exceed_the_budget_and_every_waiter_is_answered_once(seed: int) -> None:
    cache: EmbeddingCache[Entry, tuple[int, int]] = EmbeddingCache(Limits(50, 8, 4))
    answered: list[tuple[int, int]] = []
    wrong: list[str] = []
    lock = threading.Lock()
    callers = 6

    def answer(tickets: list[tuple[int, int]]) -> None:
        with lock:
            answered.extend(tickets)

    def encode(choose: random.Random) -> None:
        taken = cache.begin()
        if taken is None:
            return
        key, image = taken
        if image != key.encode():
            wrong.append(f"{key} with the image of {image!r}")
        failed = choose.random() < 0.1
        answer(cache.fail(key) if failed else cache.complete(key, Entry(choose.randrange(1, 20), key), 0.0))

    def work(worker: int) -> None:
        choose = random.Random(seed * 100 + worker)
        for step in range(200):
            key, ticket = choose.choice("abcdefghijkl"), (worker, step)
            try:
                admission = cache.admit(key, ticket, key.encode())
            except BusyError:
                answer([ticket])
                continue
            if admission.embedding is not None:
                if admission.embedding.key != key:
                    wrong.append(f"{admission.embedding.key} for {key}")
                answer([ticket])
            elif choose.random() < 0.2 and cache.leave(key, ticket):
                answer([ticket])
            if admission.must_encode:
                encode(choose)
            if cache.stats.bytes > 50:
                wrong.append("more bytes than the budget")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(answered) == [(worker, step) for worker in range(callers) for step in range(200)]
    assert cache.stats.inflight == 0
