"""The queries about held-out scenes, whose seeds are never trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam3_demo.concepts.phrases import ANY, compose
from sam3_demo.concepts.samples import Query, box_query, text_query
from sam3_demo.concepts.scenes import AXES, ShapeScene

_STREAM = 11  # of random numbers, for the queries
KINDS = {"single": 1, "pair": 2, "triple": 3}  # attributes of a phrase


def queries(seed: int, scene: ShapeScene) -> list[tuple[str, Query]]:
    """The queries about a held-out scene, each with its kind.

    Of each kind of phrase, one that is in the picture and one that is not; and example boxes without a text.
    """
    rng = np.random.default_rng([seed, _STREAM])
    asked = []
    for kind, axes in KINDS.items():
        for present in (True, False):
            query = text_query(rng, scene.attributes, axes, present)
            if query is not None:
                asked.append((kind, query))
    asked.append(("boxes", box_query(rng, scene.attributes, scene.boxes)))
    return asked


def swap(seed: int, attributes: NDArray[np.int64]) -> tuple[Query, Query] | None:
    """Two phrases of a colour and a shape for one scene that differ in one of the two, and find different objects."""
    rng = np.random.default_rng([seed, _STREAM, 1])
    different = (attributes[:, None, :2] != attributes[None, :, :2]).sum(axis=2) == 1
    places = np.argwhere(different)
    if not len(places):
        return None
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    asked = []
    for number in places[rng.integers(len(places))]:
        shape, colour = attributes[number, :2].tolist()
        phrase = compose(rng, (shape, colour, *[ANY] * (len(AXES) - 2)))
        asked.append(Query(phrase, *nothing, phrase.matches(attributes)))
    return asked[0], asked[1]
