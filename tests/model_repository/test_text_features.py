from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from text_features import TextFeatures


def test_callers_of_a_new_text_share_one_encode() -> None:
    texts: TextFeatures[str, int] = TextFeatures(2)
    assert texts.ask(b"cat", 1) == (None, True)
    assert texts.ask(b"cat", 2) == (None, False)
    assert texts.ask(b"dog", 3) == (None, True)
    assert texts.complete(b"cat", "features") == [1, 2]
    assert texts.ask(b"cat", 4) == ("features", False)
    assert texts.complete(b"dog", "others") == [3]


def test_a_failed_encode_is_not_kept() -> None:
    texts: TextFeatures[str, int] = TextFeatures(2)
    texts.ask(b"cat", 1)
    assert texts.fail(b"cat") == [1]
    assert texts.ask(b"cat", 2) == (None, True)


@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_the_texts_used_last_are_kept(capacity: int) -> None:
    texts: TextFeatures[str, int] = TextFeatures(capacity)
    for key in (b"a", b"b"):
        texts.ask(key, 0)
        texts.complete(key, key.decode())
    texts.ask(b"a", 0)  # at capacity 2, b is now the older one
    if capacity < 2:
        texts.fail(b"a")
    texts.ask(b"c", 0)
    texts.complete(b"c", "c")
    kept = [key for key in (b"a", b"b", b"c") if texts.ask(key, 0)[0]]
    assert kept == [[], [b"c"], [b"a", b"c"]][capacity]


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="max_texts must be at least 0, not -1"):
        TextFeatures(-1)


def test_many_threads_begin_one_encode_for_each_text() -> None:
    texts: TextFeatures[str, int] = TextFeatures(8)
    with ThreadPoolExecutor(16) as pool:
        asked = list(pool.map(lambda number: texts.ask(b"%d" % (number % 4), number), range(400)))
    assert [must for _, must in asked].count(True) == 4
    waiting = [texts.complete(b"%d" % key, "x") for key in range(4)]
    assert sorted(number for callers in waiting for number in callers) == list(range(400))
