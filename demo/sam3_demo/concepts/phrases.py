"""The phrases that the model can know: their words, what they mean, and which objects of a scene they match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sam3_export.components.concept_prompts import END, PADDING, START

from sam3_demo.concepts.scenes import AXES

Rng = np.random.Generator
ANY = -1  # in `Meaning`, every value of an axis
CONTEXT = 32  # tokens of a text
VISUAL = "visual"  # the text that a server sends for example boxes alone

# Every word that is learnt, with its ids in CLIP's vocabulary; the tests compare them with the server's tokenizer.
WORDS: dict[str, tuple[int, ...]] = {
    "circle": (7117,),
    "circles": (19411,),
    "disc": (10712,),
    "discs": (29270,),
    "disk": (17970,),
    "disks": (1518, 662),
    "square": (3999,),
    "squares": (26972,),
    "triangle": (14615,),
    "triangles": (924, 18627),
    "star": (1565,),
    "stars": (2895,),
    "ring": (2540,),
    "rings": (5751,),
    "donut": (18471,),
    "donuts": (13970,),
    "cross": (3417,),
    "crosses": (20473,),
    "red": (736,),
    "orange": (4287,),
    "yellow": (4481,),
    "green": (1901,),
    "blue": (1746,),
    "purple": (5496,),
    "violet": (16118,),
    "white": (1579,),
    "black": (1449,),
    "plain": (10709,),
    "solid": (6148,),
    "striped": (22192,),
    "dotted": (47950,),
    "spotted": (4533,),
    "small": (2442,),
    "little": (1274,),
    "tiny": (5591,),
    "large": (3638,),
    "big": (1205,),
    "huge": (2699,),
    "shape": (6448,),
    "shapes": (15377,),
    "object": (14115,),
    "objects": (13770,),
    "thing": (946,),
    "things": (1739,),
    "a": (320,),
    "the": (518,),
    "all": (615,),
    VISUAL: (7195,),
}
# Names of each value; for shapes singular and plural. A medium size has no name.
_SHAPES: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs"), ("disk", "disks")),
    "square": (("square", "squares"),),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "ring": (("ring", "rings"), ("donut", "donuts")),
    "cross": (("cross", "crosses"),),
}
_ANY_SHAPE = (("shape", "shapes"), ("object", "objects"), ("thing", "things"))
_ADJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "size": {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")},
    "texture": {"plain": ("plain", "solid"), "striped": ("striped",), "dotted": ("dotted", "spotted")},
    "colour": {name: (name, "violet") if name == "purple" else (name,) for name in AXES["colour"]},
}
_FIRST = ("a", "the", "all")  # change nothing
# How often a phrase has a synonym, a plural, one of `_FIRST`, and only adjectives.
_SYNONYM, _PLURAL, _ARTICLE, _BARE = 0.25, 0.4, 0.15, 0.15
# Stands for every word that is not listed here: no object has that name. One is enough, because `storage` gives all
# words outside the vocabulary the same embedding.
UNKNOWN_WORD, UNKNOWN_ID = "dog", 1929

_Name = TypeVar("_Name")
Meaning = tuple[int, ...]  # for each of `AXES` a value or `ANY`


def _values() -> dict[str, tuple[int, int]]:
    """For each word that restricts an axis, the axis and the value."""
    values = {}
    axes = list(AXES)
    for shape, names in _SHAPES.items():
        for name in (name for pair in names for name in pair):
            values[name] = axes.index("shape"), AXES["shape"].index(shape)
    for axis, adjectives in _ADJECTIVES.items():
        for value, synonyms in adjectives.items():
            values |= {name: (axes.index(axis), AXES[axis].index(value)) for name in synonyms}
    return values


_VALUES = _values()
_NEUTRAL = {*_FIRST, *(name for pair in _ANY_SHAPE for name in pair)}
VOCABULARY = tuple(sorted({number for ids in WORDS.values() for number in ids}))


@dataclass(frozen=True)
class Phrase:
    """A text and what it means; None if it has an unknown word, so that nothing matches."""

    text: str
    meaning: Meaning | None

    @classmethod
    def parse(cls, text: str) -> Phrase:
        """Reads a text of known words in any order.

        Raises:
            ValueError: two words contradict each other.
        """
        meaning = [ANY] * len(AXES)
        for word in text.lower().split():
            if word in _VALUES:
                axis, value = _VALUES[word]
                if meaning[axis] not in (ANY, value):
                    raise ValueError(f"{text!r} names two values of one {list(AXES)[axis]}")
                meaning[axis] = value
            elif word not in _NEUTRAL:
                return cls(text, None)
        return cls(text, tuple(meaning))

    def matches(self, attributes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which objects match; `attributes` int [n, 4] as in `ShapeScene`; bool [n]."""
        if self.meaning is None:
            return np.zeros(len(attributes), bool)
        wanted = np.array(self.meaning)
        return ((wanted == ANY) | (attributes == wanted)).all(axis=1)

    def tokens(self) -> NDArray[np.int32]:
        """The text encoder's input, int32 [32]."""
        ids = [number for word in self.text.lower().split() for number in WORDS.get(word, (UNKNOWN_ID,))]
        row = np.full(CONTEXT, PADDING, np.int32)
        row[: len(ids) + 2] = [START, *ids, END]
        return row


def nameable(meaning: Sequence[int]) -> bool:
    """Whether there are words for every value of a meaning."""
    size = meaning[list(AXES).index("size")]
    return size == ANY or AXES["size"][size] in _ADJECTIVES["size"]


def compose(rng: Rng, meaning: Meaning) -> Phrase:
    """A phrase for a meaning, in one of its wordings."""
    values = dict(zip(AXES, meaning, strict=True))
    words = [_pick(rng, names[AXES[axis][values[axis]]]) for axis, names in _ADJECTIVES.items() if values[axis] != ANY]
    shape = values["shape"]
    if shape != ANY or not words or rng.random() >= _BARE:
        pair = _pick(rng, _ANY_SHAPE if shape == ANY else _SHAPES[AXES["shape"][shape]])
        words.append(pair[int(rng.random() < _PLURAL)])
        if rng.random() < _ARTICLE:
            words.insert(0, _FIRST[rng.integers(len(_FIRST))])
    return Phrase(" ".join(words), meaning)


def _pick(rng: Rng, names: Sequence[_Name]) -> _Name:
    """The first name, or now and then a synonym."""
    if len(names) > 1 and rng.random() < _SYNONYM:
        return names[rng.integers(1, len(names))]
    return names[0]
