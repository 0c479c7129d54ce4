"""Replays golden clicks on the running server and compares its answers with PyTorch's, which sam3-export stored.

An engine that was built on this GPU, for example in a lower precision, can give wrong answers without any error.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from sam3_triton.client import Sam3Client
from sam3_triton.doctor.findings import Finding, fault, ok
from sam3_triton.doctor.repository import CURRENT, EXPORT_AGAIN
from sam3_triton.doctor.server import ENCODER, Configs
from sam3_triton.errors import Sam3Error
from sam3_triton.predictions import Prediction
from sam3_triton.prompts import Prompt

FOLDER = CURRENT / "golden"
# The first click runs the encoder: up to a minute without a GPU, longer if an engine is built first.
GOLDEN_TIMEOUT_S = 600.0
WRONG = (
    "do not route traffic to this server: its engine is wrong on this machine (serve another profile), or it serves an "
    "export that is not this repository's"
)


@dataclass(frozen=True)
class Click:
    """A prompt and PyTorch's answer: scores float32 [M], logits float32 [M, h, w]."""

    name: str
    prompt: Prompt
    scores: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Golden:
    """A picture, its clicks, and the tolerances for each file name of the image encoder."""

    image: bytes
    clicks: tuple[Click, ...]
    bounds: dict[str, dict[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Golden:
        """Reads the files that sam3-export wrote.

        Raises:
            OSError: a file is missing.
            ValueError, KeyError, TypeError, zipfile.BadZipFile: a file is damaged.
        """
        document = json.loads((folder / "clicks.json").read_bytes())
        with np.load(folder / "logits.npz") as logits:
            clicks = tuple(
                Click(
                    name=entry["name"],
                    prompt=Prompt.of(
                        entry["points"] or None, entry["labels"] or None, entry["box"], multimask=entry["multimask"]
                    ),
                    scores=np.array(entry["scores"], np.float32),
                    logits=logits[entry["name"]],
                )
                for entry in document["clicks"]
            )
        return cls((folder / "image.png").read_bytes(), clicks, document["bounds"])


def check_golden(url: str, configs: Configs, repository: Path) -> Finding:
    """Checks whether the server's answers agree with PyTorch's, within the tolerance of the precision."""
    if reason := configs.lacking(ENCODER):
        return fault("golden", reason, "do not route traffic to this server: its engine was not checked")
    try:
        golden = Golden.read(repository / FOLDER)
    except OSError as error:
        return fault("golden", f"no golden clicks: {error.filename}: {error.strerror}", EXPORT_AGAIN)
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = f"{repository / FOLDER} is damaged ({type(error).__name__}: {error})"
        return fault("golden", reason, EXPORT_AGAIN)
    file_name = str(configs.by_model[ENCODER].get("default_model_filename"))
    if file_name not in golden.bounds:
        return fault("golden", f"the server runs {file_name}, which this export does not contain", EXPORT_AGAIN)
    return _replay(url, golden, golden.bounds[file_name], file_name)


def _replay(url: str, golden: Golden, bounds: dict[str, float], file_name: str) -> Finding:
    drifts = []
    try:
        with Sam3Client(url, timeout_s=GOLDEN_TIMEOUT_S) as client:
            for click in golden.clicks:
                drift = _drift(client.segment(golden.image, click.prompt), click)
                if not _within(drift, bounds):
                    told = f"{click.name}: {_told(drift)}; the tolerances of {file_name} are {_told(bounds)}"
                    return fault("golden", told, WRONG)
                drifts.append(drift)
    except Sam3Error as error:
        return fault("golden", str(error), "see the faults above and the server's log")
    worst = {
        "logits": max(drift["logits"] for drift in drifts),
        "score": max(drift["score"] for drift in drifts),
        "mask_iou": min(drift["mask_iou"] for drift in drifts),
    }
    return ok("golden", f"{len(drifts)} golden clicks on {file_name} agree with PyTorch: {_told(worst)}")


def _drift(answer: Prediction, click: Click) -> dict[str, float]:
    """Measures like sam3-export: logits and scores as fractions of their scale, and the lowest IoU of a mask.

    Candidates of nearly equal scores may change places by rounding: they are compared in the order that fits best.
    """
    found = answer.low_res_logits
    if found.shape != click.logits.shape or answer.scores.shape != click.scores.shape:
        return {"logits": float("inf"), "score": float("inf"), "mask_iou": 0.0}
    orders = map(list, permutations(range(len(found))))
    order = min(orders, key=lambda order: _of_scale(found[order], click.logits))
    return {
        "logits": _of_scale(found[order], click.logits),
        "score": _of_scale(answer.scores[order], click.scores),
        "mask_iou": min(_iou(left > 0, right > 0) for left, right in zip(found[order], click.logits, strict=True)),
    }


def _of_scale(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a fraction of the largest magnitude that is expected, and at least of 1."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    either = np.logical_or(left, right).sum()
    return float(np.logical_and(left, right).sum() / either) if either else 1.0


def _within(drift: dict[str, float], bounds: dict[str, float]) -> bool:
    """Whether a drift is within the tolerances; False for NaN."""
    small = drift["logits"] <= bounds["logits"] and drift["score"] <= bounds["score"]
    return small and drift["mask_iou"] >= bounds["mask_iou"]


def _told(drift: dict[str, float]) -> str:
    return f"logits {drift['logits']:.1e} of scale, scores {drift['score']:.1e}, mask IoU {drift['mask_iou']:.3f}"
