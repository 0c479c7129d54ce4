"""Phrases mean what they say, and the queries of training and evaluation are what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
from clip_tokens import ClipTokenizer
from sam3_demo.concepts import phrases
from sam3_demo.concepts.held_out import queries, swap
from sam3_demo.concepts.phrases import ANY, Phrase, compose
from sam3_demo.concepts.samples import box_query, query, text_query
from sam3_demo.concepts.scenes import AXES, make_shape_scene
from sam3_demo.pool import SCENE_SIZE


def thing(shape: str, colour: str, texture: str, size: str) -> list[int]:
    return [AXES[axis].index(value) for axis, value in zip(AXES, (shape, colour, texture, size), strict=True)]


THINGS = np.array(
    [
        thing("circle", "red", "plain", "small"),
        thing("circle", "blue", "striped", "large"),
        thing("square", "red", "striped", "medium"),
    ]
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("circle", [0, 1]),
        ("discs", [0, 1]),
        ("red", [0, 2]),
        ("red shapes", [0, 2]),
        ("the red circle", [0]),
        ("big striped blue disk", [1]),
        ("striped thing", [1, 2]),
        ("small squares", []),
        ("all objects", [0, 1, 2]),
        ("red dog", []),
    ],
)
def test_a_phrase_matches_what_it_names(text: str, found: list[int]) -> None:
    assert np.flatnonzero(Phrase.parse(text).matches(THINGS)).tolist() == found


def test_contradicting_words_are_refused() -> None:
    with pytest.raises(ValueError, match="'red blue circle' names two values of one colour"):
        Phrase.parse("red blue circle")


def test_every_wording_is_read_back_and_tokenized_as_the_server_does() -> None:
    rng, tokenizer, seen = np.random.default_rng(0), ClipTokenizer(), set()
    for _ in range(1500):
        values = (
            THINGS[rng.integers(3)] if rng.random() < 0.1 else [rng.integers(len(names)) for names in AXES.values()]
        )
        meaning = tuple(int(value) if rng.random() < 0.5 else ANY for value in values)
        if not phrases.nameable(meaning):
            continue
        phrase = compose(rng, meaning)
        assert Phrase.parse(phrase.text) == phrase
        assert np.array_equal(phrase.tokens(), tokenizer.tokens(phrase.text).ids), phrase.text
        seen |= set(phrase.text.split())
    assert seen == set(phrases.WORDS) - {phrases.VISUAL}


def test_a_query_asks_for_what_it_should_find() -> None:
    rng = np.random.default_rng(0)
    present = []
    for seed in range(15):
        scene = make_shape_scene(seed, SCENE_SIZE)
        for _ in range(30):
            asked = query(rng, scene.attributes, scene.boxes)
            if len(asked.boxes):
                continue
            assert np.array_equal(asked.matching, asked.phrase.matches(scene.attributes))
            present.append(asked.matching.any())
    assert 0.45 < np.mean(present) < 0.65


def test_an_example_asks_for_its_likes() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 0.8, 0.8], [0.1, 0.6, 0.3, 0.9]], np.float32)
    alike = np.array([THINGS[0], THINGS[1], THINGS[0]])
    negative = 0
    for _ in range(50):
        asked = box_query(rng, alike, corners)
        assert asked.phrase.text == phrases.VISUAL
        assert asked.labels[0] == 1
        nearest = [int(np.abs(corners - box).sum(axis=1).argmin()) for box in asked.boxes]
        assert asked.matching[nearest].astype(int).tolist() == asked.labels.tolist()
        assert asked.matching.tolist() in ([True, False, True], [False, True, False])
        negative += 0 in asked.labels
    assert negative


def test_held_out_queries_are_balanced_and_repeatable() -> None:
    present = []
    for seed in range(10):
        scene = make_shape_scene(seed, SCENE_SIZE)
        asked = queries(seed, scene)
        assert [one.phrase.text for _, one in asked] == [one.phrase.text for _, one in queries(seed, scene)]
        present += [one.matching.any() for kind, one in asked if kind != "boxes"]
        swapped = swap(seed, scene.attributes)
        if swapped is not None:
            first, second = (one.matching for one in swapped)
            assert first.any()
            assert second.any()
            assert not (first & second).any()
    assert 0.4 < np.mean(present) < 0.6


def test_a_phrase_that_no_object_can_match_is_not_asked_for() -> None:
    medium = np.array([thing("square", "red", "striped", "medium")])
    assert text_query(np.random.default_rng(0), medium, axes=4, present=True) is None
