"""The reference cases of Meta's own implementation for clicks (tests/data/golden*/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data" / "golden"
CHECKPOINT = FOLDER / "sam3_tiny.pt"
CONFIG = FOLDER / "sam3_tiny.json"
# SAM 3.1, of the same sizes, with two of the same photos.
FOLDER_31 = FOLDER.with_name("golden_31")
CHECKPOINT_31 = FOLDER_31 / "sam3.1_tiny.pt"
# SAM 3 with both halves; golden_concepts.py has its other cases.
FOLDER_CONCEPTS = FOLDER.with_name("golden_concepts")
FOLDERS = FOLDER, FOLDER_31, FOLDER_CONCEPTS

# Tolerances: Pillow's resize differs from Meta's by up to one grey level.
SCORE_TOLERANCE = 1e-3
LOGIT_TOLERANCE = 0.3
MINIMUM_IOU = 0.99


@dataclass(frozen=True)
class Case:
    """One prompt on one photo, and Meta's answer, best score first."""

    name: str
    folder: Path  # one of the three above
    photo: Path
    prompt: dict[str, Any]  # keyword arguments of Sam3Client.predict
    scores: np.ndarray
    low_res_logits: np.ndarray
    masks: np.ndarray  # bool [M, H, W]

    @property
    def unstable(self) -> bool:
        """Whether the case needs the weights that force the fallback from mask token 0."""
        return "/unstable/" in self.name

    @property
    def weights(self) -> str:
        """The name of the export that the case needs (conftest.py)."""
        return self.folder.name.replace("golden", "unstable" if self.unstable else "golden")


@cache
def document(folder: Path = FOLDER) -> dict[str, Any]:
    """The content of cases.json."""
    return json.loads((folder / "cases.json").read_text())


@cache
def cases(folder: Path = FOLDER) -> list[Case]:
    """All cases of a release."""
    with np.load(folder / "reference.npz") as reference:
        content = document(folder)
        entries = content["click_cases"] if folder == FOLDER_CONCEPTS else content["cases"]
        return [_case(entry, folder, reference) for entry in entries]


def case(name: str) -> Case:
    """The case called `name`."""
    return next(case for case in cases() if case.name == name)


def _case(entry: dict[str, Any], folder: Path, reference: Any) -> Case:
    name = entry["name"]
    order = np.argsort(-reference[f"{name}/scores"], kind="stable")
    prompt = {
        "points": entry.get("point_coords"),
        "labels": entry.get("point_labels"),
        "box": entry.get("box"),
        "mask_input": reference[entry["mask_input"]] if entry.get("mask_input") else None,
        "multimask": entry["multimask_output"],
    }
    masks = np.unpackbits(reference[f"{name}/masks"], axis=-1)[..., : entry["width"]].astype(bool)
    return Case(
        name=name,
        folder=folder,
        photo=FOLDER / entry["photo"],
        prompt=prompt,
        scores=reference[f"{name}/scores"][order],
        low_res_logits=reference[f"{name}/low_res_logits"][order],
        masks=masks[order],
    )


def iou(left: np.ndarray, right: np.ndarray) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    either = np.logical_or(left, right).sum()
    return float(np.logical_and(left, right).sum() / either) if either else 1.0
