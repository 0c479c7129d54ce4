"""Replays golden concepts on the running server, like `golden` the clicks, if the export has concept prompts."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3_triton.client import Sam3Client
from sam3_triton.concepts import ConceptPrompt
from sam3_triton.doctor.findings import Finding, fault, ok
from sam3_triton.doctor.golden import FOLDER, GOLDEN_TIMEOUT_S, WRONG
from sam3_triton.doctor.repository import EXPORT_AGAIN
from sam3_triton.doctor.server import DETECTOR, ENCODER, Configs
from sam3_triton.errors import Sam3Error
from sam3_triton.images import EncodedImage
from sam3_triton.instances import Instances


@dataclass(frozen=True)
class GoldenConcept:
    """A concept and the best instances that PyTorch finds: scores float32 [n], boxes float32 [n, 4] in pixels, and
    masks bool [n, S, S]."""

    name: str
    prompt: ConceptPrompt
    presence: float
    scores: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class GoldenConcepts:
    """A picture, its concepts, the tolerances for each file name of the image encoder, and the share of the picture
    below which a mask has too few pixels to compare."""

    image: bytes
    concepts: tuple[GoldenConcept, ...]
    bounds: dict[str, dict[str, float]]
    smallest_mask: float

    @classmethod
    def read(cls, folder: Path) -> GoldenConcepts:
        """Reads the files that sam3-export wrote.

        Raises:
            OSError: a file is missing.
            ValueError, KeyError, TypeError, zipfile.BadZipFile: a file is damaged.
        """
        document = json.loads((folder / "concepts.json").read_bytes())
        concepts = []
        with np.load(folder / "concept_masks.npz") as masks:
            for entry in document["concepts"]:
                boxes, count = entry["boxes"] or None, 2 * len(entry["scores"])
                # Rounding may change the order of equally good instances: of twice as many, the nearest are compared.
                prompt = ConceptPrompt.of(
                    entry["text"], boxes, entry["box_labels"] or None, threshold=0, max_instances=count
                )
                packed = masks[entry["name"]]
                concepts.append(
                    GoldenConcept(
                        name=entry["name"],
                        prompt=prompt,
                        presence=float(entry["presence"]),
                        scores=np.array(entry["scores"], np.float32),
                        boxes=np.array(entry["instance_boxes"], np.float32),
                        masks=np.unpackbits(packed, axis=-1)[..., : packed.shape[1]].astype(bool),
                    )
                )
        image = (folder / "image.png").read_bytes()
        return cls(image, tuple(concepts), document["bounds"], float(document["smallest_mask"]))


def check_golden_concepts(url: str, configs: Configs, repository: Path) -> Finding:
    """Checks whether the instances that the server finds agree with PyTorch's, within the precision's tolerance."""
    if reason := configs.lacking(ENCODER):
        return fault("golden", reason, "do not route traffic to this server: its engine was not checked")
    try:
        golden = GoldenConcepts.read(repository / FOLDER)
    except OSError as error:
        return fault("golden", f"no golden concepts: {error.filename}: {error.strerror}", EXPORT_AGAIN)
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = f"the golden concepts in {repository / FOLDER} are damaged ({type(error).__name__}: {error})"
        return fault("golden", reason, EXPORT_AGAIN)
    if DETECTOR not in configs.by_model:
        return fault("golden", "no concept prompts: the server does not serve them", "see the line on concepts")
    # As for clicks, the format is that of the image encoder: an 8-bit one has a detector in fp32.
    file_name = str(configs.by_model[ENCODER].get("default_model_filename"))
    if file_name not in golden.bounds:
        return fault("golden", f"the server runs {file_name}, which this export does not contain", EXPORT_AGAIN)
    return _replay(url, golden, golden.bounds[file_name], file_name)


def _replay(url: str, golden: GoldenConcepts, bounds: dict[str, float], file_name: str) -> Finding:
    drifts = []
    image = EncodedImage.of(golden.image)
    try:
        with Sam3Client(url, timeout_s=GOLDEN_TIMEOUT_S) as client:
            for concept in golden.concepts:
                (found,) = client.find_concepts(image, [concept.prompt])
                drift = _drift(found, concept, golden.smallest_mask)
                if not _within(drift, bounds):
                    told = f"{concept.name}: {_told(drift)}; the tolerances of {file_name} are {_told(bounds)}"
                    return fault("golden", told, WRONG)
                drifts.append(drift)
    except Sam3Error as error:
        return fault("golden", str(error), "see the faults above and the server's log")
    worst = _worst(drifts)
    return ok("golden", f"{len(drifts)} golden concepts on {file_name} agree with PyTorch: {_told(worst)}")


def _drift(found: Instances, concept: GoldenConcept, smallest_mask: float) -> dict[str, float]:
    """Measures like sam3-export: each expected instance against the found one whose mask and box are nearest. Boxes are
    measured as fractions of the picture's side."""
    side = max(found.image_size)
    drifts = [{"score": abs(found.presence - concept.presence), "box": 0.0, "mask_iou": 1.0}]
    for score, box, mask in zip(concept.scores, concept.boxes, concept.masks, strict=True):
        near = [
            {
                "score": abs(float(score - own_score)),
                "box": float(np.abs(box - own_box).max()) / side,
                "mask_iou": _iou(mask, own_mask, smallest_mask),
            }
            for own_score, own_box, own_mask in zip(found.scores, found.boxes, found.masks, strict=True)
        ]
        missing = {"score": float("inf"), "box": float("inf"), "mask_iou": 0.0}
        drifts.append(min(near, key=lambda drift: drift["box"] - drift["mask_iou"], default=missing))
    return _worst(drifts)


def _worst(drifts: list[dict[str, float]]) -> dict[str, float]:
    values = np.array([(drift["score"], drift["box"], drift["mask_iou"]) for drift in drifts])
    # numpy's max and min keep NaN, which no tolerance allows.
    return {
        "score": float(values[:, 0].max()),
        "box": float(values[:, 1].max()),
        "mask_iou": float(values[:, 2].min()),
    }


def _iou(left: np.ndarray, right: np.ndarray, smallest_mask: float) -> float:
    if left.shape != right.shape:
        return 0.0
    if max(left.mean(), right.mean()) < smallest_mask:
        return 1.0
    return float((left & right).sum() / (left | right).sum())


def _within(drift: dict[str, float], bounds: dict[str, float]) -> bool:
    """Whether a drift is within the tolerances; False for NaN."""
    small = drift["score"] <= bounds["score"] and drift["box"] <= bounds["box"]
    return small and drift["mask_iou"] >= bounds["mask_iou"]


def _told(drift: dict[str, float]) -> str:
    return f"scores {drift['score']:.1e}, boxes {drift['box']:.1e} of the side, mask IoU {drift['mask_iou']:.3f}"
