"""Training batches: scenes from the pool, each with phrases and example boxes, and what they should find."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam3_export.components.box_examples import EMPTY
from torch import Tensor

from sam3_demo.concepts.phrases import ANY, UNKNOWN_WORD, VISUAL, Meaning, Phrase, compose, nameable
from sam3_demo.concepts.pool import Pool
from sam3_demo.concepts.scenes import AXES

Rng = np.random.Generator
BOXES = 2  # example boxes of a query at most
# Shares of the queries: example boxes alone, and of those with a text: an example beside it, and a concept that is not
# in the picture.
_BOXES_ALONE, _TEXT_AND_BOX, _ABSENT = 0.2, 0.1, 0.45
_NUMBERS_OF_AXES = (0.06, 0.42, 0.4, 0.12)  # shares of phrases with no attribute, with one, two and three
_UNKNOWN = 0.08  # of the absent ones
_JITTER = 0.04  # of an example box, as a share of its size
_TRIES = 20
_IGNORED = -100  # by PyTorch's cross entropy


@dataclass(frozen=True)
class Query:
    """A concept for one scene, and the objects that it should find.

    phrase: what is asked for; `VISUAL` for example boxes alone.
    boxes: fp32 [n, 4], x0 y0 x1 y1 as fractions; labels: int32 [n], 1 or 0.
    matching: bool [objects of the scene].
    """

    phrase: Phrase
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    matching: NDArray[np.bool_]


def text_query(rng: Rng, attributes: NDArray[np.integer], axes: int, present: bool) -> Query | None:
    """A phrase with a number of attributes that matches some object of a scene, or none; None if none was found."""
    for _ in range(_TRIES):
        meaning = _meaning_of(rng, attributes[rng.integers(len(attributes))], axes)
        if meaning is None or (not present and axes == 0):
            return None
        if not present:
            meaning = _other(rng, meaning)
        phrase = compose(rng, meaning)
        matching = phrase.matches(attributes)
        if matching.any() == present:
            return Query(phrase, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), matching)
    return None


def box_query(rng: Rng, attributes: NDArray[np.integer], boxes: NDArray[np.float32]) -> Query:
    """One or two example boxes without a text: every object with the shape and the colour of the first one.

    A second box is another such object, or, as a negative example, one that is not.
    """
    first = int(rng.integers(len(attributes)))
    matching = (attributes[:, :2] == attributes[first, :2]).all(axis=1)
    chosen = [first]
    if rng.random() < 0.4 and len(attributes) > 1:
        chosen.append(int(rng.choice(np.delete(np.arange(len(attributes)), first))))
    return Query(Phrase.parse(VISUAL), _jittered(rng, boxes[chosen]), matching[chosen].astype(np.int32), matching)


def _beside_text(rng: Rng, query: Query, attributes: NDArray[np.integer], boxes: NDArray[np.float32]) -> Query:
    """Adds an example to a text: a positive one changes nothing, a negative one removes the objects like it."""
    positive = bool(rng.random() < 0.5)
    chosen = int(rng.choice(np.flatnonzero(query.matching)))
    alike = (attributes[:, :2] == attributes[chosen, :2]).all(axis=1)
    matching = query.matching if positive else query.matching & ~alike
    return Query(query.phrase, _jittered(rng, boxes[[chosen]]), np.array([positive], np.int32), matching)


def _jittered(rng: Rng, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (boxes + rng.normal(0, _JITTER, boxes.shape) * sizes).clip(0, 1).astype(np.float32)


def _meaning_of(rng: Rng, values: NDArray[np.integer], axes: int) -> Meaning | None:
    """A number of the attributes of an object that have names; None if it has too few."""
    named = [axis for axis in range(len(AXES)) if nameable([values[axis] if i == axis else ANY for i in range(4)])]
    if len(named) < axes:
        return None
    # Shape and colour are what people name most often.
    weights = np.array([(2.0, 2.0, 1.0, 1.0)[axis] for axis in named])
    chosen = rng.choice(named, axes, replace=False, p=weights / weights.sum())
    return tuple(int(values[axis]) if axis in chosen else ANY for axis in range(len(AXES)))


def _other(rng: Rng, meaning: Meaning) -> Meaning:
    """The meaning with one of its values replaced by another one."""
    axis = int(rng.choice([axis for axis, value in enumerate(meaning) if value != ANY]))
    others = [value for value in range(len(list(AXES.values())[axis])) if value != meaning[axis]]
    while True:
        changed = list(meaning)
        changed[axis] = int(rng.choice(others))
        if nameable(changed):
            return tuple(changed)


def query(rng: Rng, attributes: NDArray[np.integer], boxes: NDArray[np.float32]) -> Query:
    """A query as in training."""
    if rng.random() < _BOXES_ALONE:
        return box_query(rng, attributes, boxes)
    while True:
        present = bool(rng.random() >= _ABSENT)
        if not present and rng.random() < _UNKNOWN:
            return text_unknown(rng, attributes)
        found = text_query(rng, attributes, int(rng.choice(4, p=_NUMBERS_OF_AXES)), present)
        if found is not None:
            break
    return _beside_text(rng, found, attributes, boxes) if present and rng.random() < _TEXT_AND_BOX else found


def text_unknown(rng: Rng, attributes: NDArray[np.integer]) -> Query:
    """A phrase with a noun that the model does not know, perhaps behind an adjective that it does."""
    meaning = _meaning_of(rng, attributes[rng.integers(len(attributes))], int(rng.integers(2)))
    words = compose(rng, meaning).text.split()[:-1] if meaning is not None else []
    phrase = Phrase(" ".join([*words, UNKNOWN_WORD]), None)
    return Query(phrase, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), phrase.matches(attributes))


@dataclass(frozen=True)
class Batch:
    """One training step: B scenes with P queries each.

    features: fp16 [B, D, g, g].
    tokens: int32 [B * P, T].
    meanings: int64 [B * P, 4], what the texts mean on each of `AXES`: a value plus 1, or 0 for any; -100, which
        losses ignore, if they have an unknown word.
    coords: fp32 [B * P, N, 4], cx cy w h; labels: int32 [B * P, N].
    matching: bool [B * P, 8], the objects that should be found.
    boxes: fp32 [B, 8, 4], cx cy w h of the objects.
    cells: int64 [B, g, g], the object at the middle of each cell, from 1; attributes: int64 [B, 8, 4], -1 for none.
    mask_rows: int64 [R], queries whose masks are learnt too; mask_objects: int64 [R], one object for each.
    coverage: fp32 [R, 4g, 4g], the share of each cell that the object covers.
    """

    features: Tensor
    tokens: Tensor
    meanings: Tensor
    coords: Tensor
    labels: Tensor
    matching: Tensor
    boxes: Tensor
    cells: Tensor
    attributes: Tensor
    mask_rows: Tensor
    mask_objects: Tensor
    coverage: Tensor


def look_at(pool: Pool, indices: NDArray[np.integer]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`features`, `cells`, `attributes` and `boxes` of some scenes, as in `Batch`."""
    step = pool.objects.shape[1] // pool.features.shape[-1]
    cells = pool.objects[indices, step // 2 :: step, step // 2 :: step].astype(np.int64)
    arrays = pool.features[indices], cells, pool.attributes[indices].astype(np.int64), centred(pool.boxes[indices])
    features, cells_, attributes, boxes = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return features, cells_, attributes, boxes


def batch(pool: Pool, rng: Rng, scenes: int, queries: int, masks: int) -> Batch:
    """Draws a batch; `masks` is the largest R."""
    cv2.setNumThreads(1)
    indices = rng.choice(len(pool), scenes, replace=False)
    features, cells, attributes, boxes = look_at(pool, indices)
    rows = [
        query(rng, own[:count], corners[:count])
        for own, corners, count in zip(
            attributes.numpy(), pool.boxes[indices], (attributes[:, :, 0] >= 0).sum(dim=1).tolist(), strict=True
        )
        for _ in range(queries)
    ]
    matching = np.zeros((len(rows), attributes.shape[1]), bool)
    for row, one in zip(matching, rows, strict=True):
        row[: len(one.matching)] = one.matching
    mask_rows = rng.permutation(np.flatnonzero(matching.any(axis=1)))[:masks]
    mask_objects = np.array([rng.choice(np.flatnonzero(matching[row])) for row in mask_rows], np.int64)
    fine = 4 * features.shape[-1], 4 * features.shape[-1]
    coverage = [
        cv2.resize((pool.objects[index] == number + 1).astype(np.float32), fine, interpolation=cv2.INTER_AREA)
        for index, number in zip(indices[mask_rows // queries], mask_objects, strict=True)
    ]
    coords, labels = zip(*(slots(one) for one in rows), strict=True)
    return Batch(
        features=features,
        tokens=torch.from_numpy(np.stack([one.phrase.tokens() for one in rows])),
        meanings=torch.tensor([one.phrase.meaning or [_IGNORED - 1] * len(AXES) for one in rows]) + 1,
        coords=torch.from_numpy(np.stack(coords)),
        labels=torch.from_numpy(np.stack(labels)),
        matching=torch.from_numpy(matching),
        boxes=boxes,
        cells=cells,
        attributes=attributes,
        mask_rows=torch.from_numpy(mask_rows),
        mask_objects=torch.from_numpy(mask_objects),
        coverage=torch.from_numpy(np.array(coverage, np.float32).reshape(-1, *fine)),
    )


def slots(query: Query) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The example boxes as the detector takes them: cx cy w h fp32 [N, 4], and labels int32 [N]."""
    coords, labels = np.zeros((BOXES, 4), np.float32), np.full(BOXES, EMPTY, np.int32)
    coords[: len(query.boxes)] = centred(query.boxes)
    labels[: len(query.labels)] = query.labels
    return coords, labels


def centred(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """x0 y0 x1 y1 as cx cy w h; fp32 [..., 4]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1).astype(np.float32)
