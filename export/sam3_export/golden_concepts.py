"""Golden concepts: texts and example boxes on the picture of the golden clicks, and PyTorch's answers to them.

`sam3 doctor --golden` replays them on a server, and the export through each format, like the clicks.

    golden/concepts.json        concepts, scores and boxes in pixels, and the bounds for each format's image encoder
    golden/concept_masks.npz    masks of each concept, `numpy.packbits` of bool [n, S, S] along the last axis
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sam3_export.architecture import Architecture
from sam3_export.components import References, concept_detector, image_encoder, text_encoder
from sam3_export.components.box_examples import EMPTY
from sam3_export.components.concept_prompts import END, PADDING, START
from sam3_export.components.pictures import DISC_CENTRE, DISC_RADIUS, RECTANGLE
from sam3_export.golden_clicks import Served
from sam3_export.parity import ParityError
from sam3_export.spec import Arrays

# How many of the best instances are compared. Of twice as many, those that resemble them are taken, since rounding may
# change the order of equally good ones.
INSTANCES = 5
# A smaller share of the picture has too few pixels to compare.
_SMALLEST_MASK = 1e-3
_LEFT, _TOP, _RIGHT, _BOTTOM = RECTANGLE
_DISC = (*(place - DISC_RADIUS for place in DISC_CENTRE), *(place + DISC_RADIUS for place in DISC_CENTRE))


@dataclass(frozen=True)
class Concept:
    """A concept on a picture of `pictures.pixels`; boxes are x0, y0, x1, y1 as fractions of its side.

    Attributes:
        text: None, together with boxes, means "visual".
        token_ids: of the text, in CLIP's vocabulary, without start and end.
        labels: of the boxes; 1 for an example, 0 for a negative example.
    """

    name: str
    text: str | None
    token_ids: tuple[int, ...]
    boxes: tuple[tuple[float, ...], ...] = ()
    labels: tuple[int, ...] = ()

    def tokens(self, length: int) -> np.ndarray:
        """The text encoder's input, int32 [1, T]."""
        ids = [START, *self.token_ids, END]
        return np.array([ids + [PADDING] * (length - len(ids))], np.int32)

    def inputs(self, count: int) -> Arrays:
        """The detector's inputs besides features, for `count` instances."""
        corners = np.array(self.boxes or [(0, 0, 0, 0)], np.float32)
        first, second = corners[:, :2], corners[:, 2:]
        return {
            "BOX_COORDS": np.concatenate([(first + second) / 2, second - first], axis=1)[None],
            "BOX_LABELS": np.array([self.labels or (EMPTY,)], np.int32),
            "RANKS": np.arange(count, dtype=np.int32)[None],
        }


CONCEPTS = (
    Concept("a text", "a red disc", (320, 736, 10712)),
    Concept("a box around the rectangle", None, (7195,), (RECTANGLE,), (1,)),
    Concept("a text, but not the disc", "blue rectangle", (1746, 1020, 36568), (RECTANGLE, _DISC), (1, 0)),
)


@dataclass(frozen=True)
class ConceptDrift:
    """How far an answer to a golden concept is, or may be, from PyTorch's in fp32.

    Attributes:
        score: the largest difference of an instance's score, or of presence.
        box: the largest difference of an instance's box, as a fraction of the picture's side.
        mask_iou: the lowest IoU of an instance's mask with PyTorch's.
    """

    score: float
    box: float
    mask_iou: float

    def within(self, bounds: ConceptDrift) -> bool:
        """Whether every value is within the bounds; NaN is not."""
        return self.score <= bounds.score and self.box <= bounds.box and self.mask_iou >= bounds.mask_iou

    def __str__(self) -> str:
        return f"scores {self.score:.1e}, boxes {self.box:.1e} of the side, mask IoU {self.mask_iou:.4f}"

    @staticmethod
    def worst(drifts: Iterable[ConceptDrift]) -> ConceptDrift:
        """The worst value of each attribute; NaN is the worst."""
        scores, boxes, ious = np.array([(one.score, one.box, one.mask_iou) for one in drifts]).T
        return ConceptDrift(float(scores.max()), float(boxes.max()), float(ious.min()))


# For each precision of the image encoder. As wide as for clicks, and for the same reason (`spec.FP32_DRIFT`).
BOUNDS = {
    "fp32": ConceptDrift(score=0.01, box=0.01, mask_iou=0.98),
    "fp16": ConceptDrift(score=0.03, box=0.03, mask_iou=0.95),
    "bf16": ConceptDrift(score=0.05, box=0.05, mask_iou=0.9),
    "int8": ConceptDrift(score=0.1, box=0.1, mask_iou=0.7),
}


@dataclass(frozen=True)
class Instances:
    """The best instances of an answer.

    Attributes:
        scores: float32 [n].
        boxes: float32 [n, 4], x0 y0 x1 y1 as fractions of the picture's side.
        masks: bool [n, S, S].
    """

    scores: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    presence: float

    @classmethod
    def of(cls, answer: Arrays, size: int) -> Instances:
        """From the detector's answer; `size` is the side of the masks in pixels."""
        centres, halves = answer["BOXES"][0, :, :2], answer["BOXES"][0, :, 2:] / 2
        logits = torch.from_numpy(answer["MASK_LOGITS"].astype(np.float32))
        masks = torch.nn.functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)[0] > 0
        count = answer["BOXES"].shape[1]
        return cls(
            scores=answer["SCORES"][0, :count],
            boxes=np.concatenate([centres - halves, centres + halves], axis=1),
            masks=masks.numpy(),
            presence=float(answer["PRESENCE"][0, 0]),
        )


class GoldenConcepts:
    """The concepts on one picture, with the answers of the PyTorch modules in fp32 on features rounded to fp16."""

    def __init__(
        self, architecture: Architecture, references: References, modules: Mapping[str, Callable[[Arrays], Arrays]]
    ) -> None:
        """
        Args:
            references, modules: see `GoldenClicks`.
        """
        assert architecture.concepts is not None
        self._size = architecture.image_size
        self._length = architecture.concepts.text_context_length
        self._count = min(INSTANCES, architecture.concepts.num_queries)
        self._most = min(2 * INSTANCES, architecture.concepts.num_queries)
        self._picture = next(case for case in references[image_encoder.NAME] if case.batch == 1)
        self._modules = modules
        tensor = image_encoder.backbone_features(architecture)
        self._features = self._picture.expected[tensor.name].astype(tensor.dtype)
        self._answers = [self._answer(concept, self._features, {}, self._count) for concept in CONCEPTS]
        self._bounds: dict[str, ConceptDrift] = {}

    def check(self, file_name: str, precision: str, served: Mapping[str, Served]) -> ConceptDrift:
        """Replays the concepts through the components of a format; returns the largest drift from PyTorch's answers.

        Args:
            file_name, served: see `GoldenClicks.check`.
            precision: of the format, a key of `BOUNDS`.

        Raises:
            ParityError: a drift beyond the bounds.
        """
        encoder, bounds = served.get(image_encoder.NAME), BOUNDS[precision]
        features = self._features
        if encoder is not None:
            features = encoder.answer(self._picture)[image_encoder.BACKBONE_FEATURES]
        drifts = []
        for concept, expected in zip(CONCEPTS, self._answers, strict=True):
            drift = _drift(self._answer(concept, features, served, self._most), expected)
            if not drift.within(bounds):
                raise ParityError(f"golden concept, {concept.name}: {drift}, but the bounds are {bounds}")
            drifts.append(drift)
        self._bounds[file_name] = bounds
        return ConceptDrift.worst(drifts)

    def _answer(self, concept: Concept, features: np.ndarray, served: Mapping[str, Served], count: int) -> Instances:
        """The best instances, by a format's components, or by PyTorch's where it has none."""
        encode, detect = (
            served[name].run if name in served else self._modules[name]
            for name in (text_encoder.NAME, concept_detector.NAME)
        )
        tokens = concept.tokens(self._length)
        answer = detect(
            {
                image_encoder.BACKBONE_FEATURES: features,
                **encode({"TOKENS": tokens}),
                "TEXT_MASK": tokens != PADDING,
                **concept.inputs(count),
            }
        )
        return Instances.of(answer, self._size)

    def write(self, folder: Path) -> None:
        """Writes the two files into the folder of the golden clicks."""
        size = self._size
        entries = [
            {
                "name": concept.name,
                "text": concept.text,
                "boxes": [[size * side for side in box] for box in concept.boxes],
                "box_labels": concept.labels,
                "presence": answer.presence,
                "scores": answer.scores.tolist(),
                "instance_boxes": (size * answer.boxes).tolist(),
            }
            for concept, answer in zip(CONCEPTS, self._answers, strict=True)
        ]
        bounds = {name: asdict(drift) for name, drift in self._bounds.items()}
        document = {"concepts": entries, "smallest_mask": _SMALLEST_MASK, "bounds": bounds}
        (folder / "concepts.json").write_text(json.dumps(document, indent=2) + "\n")
        masks = {
            concept.name: np.packbits(answer.masks, axis=-1)
            for concept, answer in zip(CONCEPTS, self._answers, strict=True)
        }
        np.savez_compressed(folder / "concept_masks.npz", **masks)


def _drift(found: Instances, expected: Instances) -> ConceptDrift:
    """Compares each expected instance with the found one whose mask and box are nearest."""
    drifts = []
    for score, box, mask in zip(expected.scores, expected.boxes, expected.masks, strict=True):
        near = [
            ConceptDrift(abs(float(score - own_score)), float(np.abs(box - own_box).max()), _iou(mask, own_mask))
            for own_score, own_box, own_mask in zip(found.scores, found.boxes, found.masks, strict=True)
        ]
        drifts.append(min(near, key=lambda drift: drift.box - drift.mask_iou))
    drifts.append(ConceptDrift(abs(found.presence - expected.presence), 0.0, 1.0))
    return ConceptDrift.worst(drifts)


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    if max(left.mean(), right.mean()) < _SMALLEST_MASK:
        return 1.0
    return float((left & right).sum() / (left | right).sum())
