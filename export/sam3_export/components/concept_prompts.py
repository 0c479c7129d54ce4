"""Seeded concepts, of texts and example boxes, for text encoder and concept detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.components.box_examples import EMPTY
from sam3_export.spec import Arrays

# Ids of CLIP's vocabulary: every text begins with one and ends with the other. 0 fills it up.
START, END, PADDING = 49406, 49407, 0


@dataclass(frozen=True)
class ConceptShape:
    """The shape of a batch of concepts; `prompts` draws texts and boxes.

    Attributes:
        words: for each image, the number of its text's tokens between start and end.
        labels: for each image, the labels of its boxes, as many for each: 1, 0, or -10 for an empty slot.
        instances: how many instances are asked for; None: all queries.
    """

    name: str
    words: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    instances: int | None = None

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(self.words)


# Other lengths than those of the parity cases, which show whether tracing has baked one in.
EXPORT_SHAPE = ConceptShape("export sample", (2, 5), ((1, 0, EMPTY), (EMPTY, 1, 1)), instances=5)
# All queries: which of two equally good instances is the last of a few depends on rounding.
PARITY_SHAPES = (
    ConceptShape("a text", (3,), ((EMPTY,),)),
    ConceptShape("text and boxes, and a box alone", (30, 1), ((1, 0, 1, EMPTY), (EMPTY, 1, EMPTY, EMPTY))),
)


def tokens(architecture: Architecture, count: int, seed: int) -> np.ndarray:
    """Random texts of different lengths, int32 [count, T]."""
    assert architecture.concepts is not None
    longest = architecture.concepts.text_context_length - 2
    return _texts(architecture, tuple(1 + index * (longest - 1) // max(1, count - 1) for index in range(count)), seed)


def prompts(architecture: Architecture, shape: ConceptShape, seed: int) -> Arrays:
    """The detector's inputs for a batch of concepts, except the features."""
    assert architecture.concepts is not None
    rng = np.random.default_rng(seed)
    labels = np.array(shape.labels, np.int32)
    sizes = rng.uniform(0.1, 0.6, (*labels.shape, 2))
    centres = rng.uniform(0.2, 0.8, (*labels.shape, 2))
    boxes = np.concatenate([centres, sizes], axis=2).astype(np.float32)
    boxes[labels == EMPTY] = 0
    count = shape.instances or architecture.concepts.num_queries
    return {
        "TEXT_MASK": _texts(architecture, shape.words, seed) != PADDING,
        "BOX_COORDS": boxes,
        "BOX_LABELS": labels,
        "RANKS": np.tile(np.arange(count, dtype=np.int32), (shape.batch, 1)),
    }


def texts(architecture: Architecture, shape: ConceptShape, seed: int) -> np.ndarray:
    """The texts of a batch of concepts, int32 [B, T]."""
    return _texts(architecture, shape.words, seed)


def _texts(architecture: Architecture, words: tuple[int, ...], seed: int) -> np.ndarray:
    assert architecture.concepts is not None
    rng = np.random.default_rng(seed)
    rows = np.full((len(words), architecture.concepts.text_context_length), PADDING, np.int32)
    for row, count in zip(rows, words, strict=True):
        row[0], row[count + 1] = START, END
        row[1 : count + 1] = rng.integers(1, START, count)
    return rows
