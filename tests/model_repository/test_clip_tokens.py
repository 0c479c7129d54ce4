"""Tokens equal those of Meta's tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from clip_tokens import ClipTokenizer
from repository import PROJECT
from text_cleaning import cleaned

GOLDEN = PROJECT / "tests" / "data" / "golden_concepts"
TEXTS = json.loads((GOLDEN / "cases.json").read_text())["texts"]
START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


@pytest.mark.parametrize("index", range(len(TEXTS)))
def test_tokens_are_metas(tokenizer: ClipTokenizer, index: int) -> None:
    expected = np.load(GOLDEN / "reference.npz")[f"text_{index}/tokens"]
    tokens = tokenizer.tokens(cleaned(TEXTS[index].encode()))
    assert tokens.ids.dtype == np.int32
    assert tokens.ids.tolist() == expected.tolist()


# Computed with open_clip's tokenizer (context_length=32, clean="lower"), from which Meta's is derived.
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("don't", [847, 713]),
        ("don'\u017ft", [847, 6, 129, 379, 339]),
        ("1234", [272, 273, 274, 275]),
        ("  \u2019S", [568]),
        ("e\u0301", [4166]),
        ("日本語", [39121, 44353, 34002, 508]),
        ("🙂!?", [32006, 6004]),
        ("a<end_of_text>b", [320, END, 321]),
        ("<START_OF_TEXT>", [START]),
    ],
)
def test_other_texts_too(tokenizer: ClipTokenizer, text: str, ids: list[int]) -> None:
    found = tokenizer.tokens(cleaned(text.encode())).ids.tolist()
    assert found == [START, *ids, END, *[0] * (30 - len(ids))]


@pytest.mark.parametrize(("words", "truncated"), [(29, False), (30, False), (31, True), (2000, True)])
def test_a_text_that_is_too_long_loses_its_end(tokenizer: ClipTokenizer, words: int, truncated: bool) -> None:
    tokens = tokenizer.tokens("cat " * words)
    assert tokens.truncated == truncated
    kept = min(words, 30)
    assert tokens.ids.tolist() == [START, *[2368] * kept, END, *[0] * (30 - kept)]


def test_a_word_that_is_too_long_is_cut(tokenizer: ClipTokenizer) -> None:
    tokens = tokenizer.tokens("xyzzy" * 1000)
    assert tokens.truncated
    assert tokens.ids[-1] == END
    assert (tokens.ids > 0).all()
