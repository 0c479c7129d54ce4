from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
from embedding_cache import BusyError, CacheStats, EmbeddingCache, Limits, NotCachedError, image_id

IMAGE = b"an image"


@dataclass(frozen=True)
class Entry:
    nbytes: int
    name: str = ""


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def cache_of(cache_bytes: int, inflight: int = 4, ttl: float = 0.0, clock: Clock | None = None) -> EmbeddingCache:
    return EmbeddingCache(Limits(cache_bytes, inflight, 2, ttl), clock or Clock())


def fill(cache: EmbeddingCache, *keys: str, nbytes: int = 10) -> None:
    for key in keys:
        assert cache.admit(key, "filler", IMAGE).must_encode
        assert cache.begin() == (key, IMAGE)
        assert cache.complete(key, Entry(nbytes, key), 0.5) == ["filler"]


def cached(cache: EmbeddingCache, key: str) -> bool:
    """Looks up a key without waiting; a hit counts as a use."""
    try:
        return cache.admit(key, "looker", None).embedding is not None
    except NotCachedError:
        return False


def test_the_id_is_the_sha256_of_the_bytes() -> None:
    assert image_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_hit_returns_the_entry_of_its_key() -> None:
    cache = cache_of(100, 4)
    fill(cache, "a", "b")
    assert cache.admit("a", None, None).embedding == Entry(10, "a")
    assert cache.stats.hits == 1
    assert cache.stats.misses == 2
    assert cache.stats.encode_seconds == 1.0


def test_the_least_recently_used_goes_first() -> None:
    cache = cache_of(30, 4)
    fill(cache, "a", "b", "c")
    assert cached(cache, "a")  # b is now the oldest, though a came first
    fill(cache, "d")
    assert [key for key in "abcd" if cached(cache, key)] == ["a", "c", "d"]
    assert cache.stats.evictions == 1
    assert cache.stats.bytes == 30
    assert cache.stats.entries == 3


def test_one_large_entry_drops_as_many_as_it_needs() -> None:
    cache = cache_of(30, 4)
    fill(cache, "a", "b", "c")
    fill(cache, "large", nbytes=25)
    assert [key for key in ("a", "b", "c", "large") if cached(cache, key)] == ["large"]


def test_an_entry_larger_than_the_budget_is_served_and_not_kept() -> None:
    cache = cache_of(30, 4)
    fill(cache, "a")
    cache.admit("huge", "waiter", IMAGE)
    assert cache.complete("huge", Entry(31), 0.1) == ["waiter"]
    assert not cached(cache, "huge")
    assert cached(cache, "a")
    assert cache.stats.bytes == 10


def test_misses_of_one_key_share_one_encode() -> None:
    cache = cache_of(100, 4)
    admissions = [cache.admit("a", name, IMAGE) for name in ("first", "second")]
    admissions.append(cache.admit("a", "by id", None))
    assert [admission.must_encode for admission in admissions] == [True, False, False]
    assert cache.complete("a", Entry(10), 0.1) == ["first", "second", "by id"]
    assert cache.stats.coalesced == 2
    assert cache.stats.misses == 1


def test_a_failure_reaches_all_waiters_and_is_not_kept() -> None:
    cache = cache_of(100, 4)
    cache.admit("a", "first", IMAGE)
    cache.admit("a", "second", IMAGE)
    assert cache.fail("a") == ["first", "second"]
    assert cache.stats.failures == 1
    assert cache.admit("a", "again", IMAGE).must_encode


def test_an_unknown_id_without_the_image_is_not_cached() -> None:
    cache = cache_of(100, 4)
    with pytest.raises(NotCachedError):
        cache.admit("a", "waiter", None)


def test_misses_beyond_the_bound_are_refused_and_hits_are_not() -> None:
    cache = cache_of(100, 2)
    fill(cache, "warm")
    cache.admit("a", "waiter", IMAGE)
    cache.admit("b", "waiter", IMAGE)
    with pytest.raises(BusyError):
        cache.admit("c", "waiter", IMAGE)
    assert cached(cache, "warm")
    assert not cache.admit("a", "joins", IMAGE).must_encode
    cache.complete("a", Entry(1), 0.1)
    assert cache.admit("c", "waiter", IMAGE).must_encode
    assert cache.stats.rejected == 1


def test_the_image_that_waited_longest_is_encoded_next_and_only_once() -> None:
    cache = cache_of(100)
    cache.admit("a", "first", b"image a")
    cache.admit("b", "second", b"image b")
    assert cache.begin() == ("a", b"image a")
    assert cache.begin() == ("b", b"image b")
    assert cache.begin() is None


def test_an_image_that_nobody_waits_for_any_more_is_not_encoded_and_frees_its_place() -> None:
    cache = cache_of(100, inflight=1)
    cache.admit("a", "first", IMAGE)
    cache.admit("a", "second", IMAGE)
    assert cache.leave("a", "first")
    assert cache.stats.inflight == 1  # the second one still waits
    assert cache.leave("a", "second")
    assert cache.stats.inflight == 0
    assert cache.stats.abandoned == 1
    assert cache.begin() is None
    assert cache.admit("b", "third", IMAGE).must_encode


def test_a_running_encode_is_kept_even_if_nobody_waits() -> None:
    cache = cache_of(100)
    cache.admit("a", "first", IMAGE)
    cache.begin()
    assert cache.leave("a", "first")
    assert cache.stats.abandoned == 0
    assert not cache.admit("a", "joins", IMAGE).must_encode
    assert cache.complete("a", Entry(10, "a"), 0.1) == ["joins"]
    assert cached(cache, "a")


def test_waiters_are_listed_until_they_are_handed_back() -> None:
    cache = cache_of(100)
    cache.admit("a", "first", IMAGE)
    cache.admit("b", "second", IMAGE)
    cache.admit("a", "third", IMAGE)
    cache.begin()
    assert sorted(cache.waiting()) == [("a", "first"), ("a", "third"), ("b", "second")]
    cache.leave("a", "first")
    assert sorted(cache.waiting()) == [("a", "third"), ("b", "second")]
    cache.fail("a")
    assert cache.waiting() == [("b", "second")]


def test_a_waiter_that_was_handed_back_cannot_leave() -> None:
    cache = cache_of(100)
    cache.admit("a", "first", IMAGE)
    assert not cache.leave("a", "somebody else")
    cache.begin()
    assert cache.complete("a", Entry(10), 0.1) == ["first"]
    assert not cache.leave("a", "first")


def test_an_old_entry_is_a_miss() -> None:
    clock = Clock()
    cache = cache_of(100, ttl=60, clock=clock)
    fill(cache, "a")
    clock.now += 59
    assert cached(cache, "a")  # which does not make it younger
    clock.now += 1
    assert cache.admit("a", "waiter", IMAGE).must_encode
    assert cache.stats.expirations == 1
    assert cache.stats.bytes == 0


def test_old_entries_are_dropped_even_if_nobody_asks() -> None:
    clock = Clock()
    cache = cache_of(100, ttl=60, clock=clock)
    fill(cache, "a")
    clock.now += 30
    fill(cache, "b")
    clock.now += 30
    cache.expire()
    assert (cache.stats.entries, cache.stats.bytes, cache.stats.expirations) == (1, 10, 1)
    assert cached(cache, "b")


def test_without_a_time_to_live_nothing_grows_old() -> None:
    clock = Clock()
    cache = cache_of(100, clock=clock)
    fill(cache, "a")
    clock.now += 1e9
    cache.expire()
    assert cached(cache, "a")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_bytes", -1),
        ("max_inflight_encodes", 0),
        ("max_concurrent_encodes", 0),
        ("ttl_seconds", -0.1),
        ("ttl_seconds", float("nan")),
        ("max_objects", 0),
    ],
)
def test_invalid_bounds_are_refused(name: str, value: float) -> None:
    texts = dict.fromkeys(("cache_bytes", "max_inflight_encodes", "max_concurrent_encodes", "max_objects"), "1")
    texts["ttl_seconds"] = "0"
    assert Limits.parse({**texts, "profile": "default"}) == Limits(1, 1, 1, 0.0, 1)
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        Limits.parse({**texts, name: str(value)})
    with pytest.raises(ValueError, match=f"the parameter {name} must be a number, not 'much'"):
        Limits.parse({**texts, name: "much"})
    del texts[name]
    with pytest.raises(ValueError, match=f"the parameter {name} is missing"):
        Limits.parse(texts)


def test_every_count_has_a_help_text() -> None:
    for field in fields(CacheStats):
        assert len(field.metadata["help"]) > 10
        assert isinstance(field.metadata["gauge"], bool)
