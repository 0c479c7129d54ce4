from __future__ import annotations

import random
import threading
from dataclasses import dataclass

import pytest
from embedding_cache import BusyError, EmbeddingCache, NotCachedError, image_id


@dataclass(frozen=True)
class Entry:
    nbytes: int
    name: str = ""


def fill(cache: EmbeddingCache, *keys: str, nbytes: int = 10) -> None:
    for key in keys:
        assert cache.admit(key, "filler", may_encode=True).must_encode
        assert cache.complete(key, Entry(nbytes, key), 0.5) == ["filler"]


def cached(cache: EmbeddingCache, key: str) -> bool:
    """Looks without waiting; counts as a use where it is there."""
    try:
        return cache.admit(key, "looker", may_encode=False).embedding is not None
    except NotCachedError:
        return False


def test_the_id_is_the_sha256_of_the_bytes() -> None:
    assert image_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_hit_hands_out_the_entry_of_its_key() -> None:
    cache: EmbeddingCache = EmbeddingCache(100, 4)
    fill(cache, "a", "b")
    assert cache.admit("a", None, may_encode=False).embedding == Entry(10, "a")
    assert cache.stats.hits == 1
    assert cache.stats.misses == 2
    assert cache.stats.encode_seconds == 1.0


def test_the_least_recently_used_goes_first() -> None:
    cache: EmbeddingCache = EmbeddingCache(30, 4)
    fill(cache, "a", "b", "c")
    assert cached(cache, "a")  # b is now the oldest, though a came first
    fill(cache, "d")
    assert [key for key in "abcd" if cached(cache, key)] == ["a", "c", "d"]
    assert cache.stats.evictions == 1
    assert cache.stats.bytes == 30
    assert cache.stats.entries == 3


def test_one_large_entry_drops_as_many_as_it_needs() -> None:
    cache: EmbeddingCache = EmbeddingCache(30, 4)
    fill(cache, "a", "b", "c")
    fill(cache, "large", nbytes=25)
    assert [key for key in ("a", "b", "c", "large") if cached(cache, key)] == ["large"]


def test_an_entry_larger_than_the_budget_is_served_and_not_kept() -> None:
    cache: EmbeddingCache = EmbeddingCache(30, 4)
    fill(cache, "a")
    cache.admit("huge", "waiter", may_encode=True)
    assert cache.complete("huge", Entry(31), 0.1) == ["waiter"]
    assert not cached(cache, "huge")
    assert cached(cache, "a")
    assert cache.stats.bytes == 10


def test_those_who_miss_the_same_key_share_one_encode() -> None:
    cache: EmbeddingCache = EmbeddingCache(100, 4)
    admissions = [cache.admit("a", name, may_encode=True) for name in ("first", "second")]
    admissions.append(cache.admit("a", "by id", may_encode=False))
    assert [admission.must_encode for admission in admissions] == [True, False, False]
    assert cache.complete("a", Entry(10), 0.1) == ["first", "second", "by id"]
    assert cache.stats.coalesced == 2
    assert cache.stats.misses == 1


def test_a_failure_is_told_to_all_who_wait_and_is_not_kept() -> None:
    cache: EmbeddingCache = EmbeddingCache(100, 4)
    cache.admit("a", "first", may_encode=True)
    cache.admit("a", "second", may_encode=True)
    assert cache.fail("a") == ["first", "second"]
    assert cache.stats.failures == 1
    assert cache.admit("a", "again", may_encode=True).must_encode


def test_an_unknown_id_without_the_image_is_not_cached() -> None:
    cache: EmbeddingCache = EmbeddingCache(100, 4)
    with pytest.raises(NotCachedError):
        cache.admit("a", "waiter", may_encode=False)


def test_misses_beyond_the_bound_are_refused_and_hits_are_not() -> None:
    cache: EmbeddingCache = EmbeddingCache(100, 2)
    fill(cache, "warm")
    cache.admit("a", "waiter", may_encode=True)
    cache.admit("b", "waiter", may_encode=True)
    with pytest.raises(BusyError):
        cache.admit("c", "waiter", may_encode=True)
    assert cached(cache, "warm")
    assert not cache.admit("a", "joins", may_encode=True).must_encode
    cache.complete("a", Entry(1), 0.1)
    assert cache.admit("c", "waiter", may_encode=True).must_encode
    assert cache.stats.rejected == 1


@pytest.mark.parametrize(("capacity", "inflight"), [(-1, 1), (0, 0)])
def test_bounds_that_make_no_sense_are_refused(capacity: int, inflight: int) -> None:
    with pytest.raises(ValueError, match="cache_bytes|max_inflight_encodes"):
        EmbeddingCache(capacity, inflight)


def test_threads_never_exceed_the_budget_and_every_waiter_is_answered_once() -> None:
    cache: EmbeddingCache = EmbeddingCache(50, 100)
    answered: list[tuple[int, int]] = []
    lock = threading.Lock()
    wrong: list[str] = []

    def work(worker: int) -> None:
        choose = random.Random(worker)
        for step in range(300):
            key, ticket = str(choose.randrange(12)), (worker, step)
            embedding, must_encode = cache.admit(key, ticket, may_encode=True)
            tickets = [ticket] if embedding is not None else []
            if embedding is not None and embedding.name != key:
                wrong.append(key)
            if must_encode:
                fails = choose.random() < 0.1
                tickets = cache.fail(key) if fails else cache.complete(key, Entry(choose.randrange(1, 20), key), 0.0)
            with lock:
                answered.extend(tickets)
            if cache.stats.bytes > 50:
                wrong.append("budget")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(answered) == [(worker, step) for worker in range(8) for step in range(300)]
