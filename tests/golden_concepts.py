"""The reference cases of Meta's own implementation for concept prompts (tests/data/golden_concepts/README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import golden
import numpy as np

FOLDER = golden.FOLDER_CONCEPTS
CHECKPOINT = FOLDER / "sam3_tiny_concepts.pt"
CONFIG = FOLDER / "sam3_tiny_concepts.json"

# Tolerances: Pillow's resize differs from Meta's by up to one grey level.
SCORE_TOLERANCE = 0.005
BOX_TOLERANCE = 0.005  # of the picture's side
MINIMUM_IOU, FP16_MINIMUM_IOU = 0.99, 0.98


@dataclass(frozen=True)
class ConceptCase:
    """One concept on one photo, and what Meta's processor returns for it, best score first.

    Attributes:
        size: (height, width) of the photo.
        boxes, box_labels: examples, x0 y0 x1 y1 in pixels; empty if there is none.
        scores: float32 [n]; instance_boxes: float32 [n, 4], x0 y0 x1 y1 in pixels; masks: bool [n, H, W].
        presence: the model's probability that the concept is in the photo.
    """

    name: str
    photo: Path
    size: tuple[int, int]
    text: str | None
    boxes: list[list[float]]
    box_labels: list[int]
    threshold: float
    scores: np.ndarray
    instance_boxes: np.ndarray
    masks: np.ndarray
    presence: float


@cache
def cases() -> list[ConceptCase]:
    """All concept cases."""
    with np.load(FOLDER / "reference.npz") as reference:
        return [_case(entry, reference) for entry in golden.document(FOLDER)["cases"]]


@cache
def tokens() -> dict[str, np.ndarray]:
    """The tokens of each text, int [32], 0 for padding."""
    with np.load(FOLDER / "reference.npz") as reference:
        return {
            text: reference[f"text_{number}/tokens"] for number, text in enumerate(golden.document(FOLDER)["texts"])
        }


def _case(entry: dict[str, Any], reference: Any) -> ConceptCase:
    name = entry["name"]
    scores = reference[f"{name}/scores"]
    order = np.argsort(-scores, kind="stable")
    masks = np.unpackbits(reference[f"{name}/masks"], axis=-1)[..., : entry["width"]].astype(bool)
    return ConceptCase(
        name=name,
        photo=golden.FOLDER / entry["photo"],
        size=(entry["height"], entry["width"]),
        text=entry["text"],
        boxes=entry["boxes"],
        box_labels=entry["box_labels"],
        threshold=entry["threshold"],
        scores=scores[order],
        instance_boxes=reference[f"{name}/boxes"][order],
        masks=masks.reshape(len(scores), entry["height"], entry["width"])[order],
        presence=float(1 / (1 + np.exp(-reference[f"{name}/presence_logit"].item()))),
    )
