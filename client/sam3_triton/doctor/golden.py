"""Golden clicks: what sam3-export has kept of PyTorch's answers, replayed on the running server.

An engine that was built on this GPU, in a lower precision say, can be wrong without a word: this is how it is found.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
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
# The first of them pays for the encoder: up to a minute without a GPU, longer where an engine is built.
_TIMEOUT_S = 600.0
_WRONG = (
    "let it take no traffic: this engine is wrong on this machine (serve another profile), or the server has loaded "
    "another export than this repository's"
)


@dataclass(frozen=True)
class Click:
    """A prompt, and what PyTorch answers: scores [M], logits float32 [M, h, w]."""

    name: str
    prompt: Prompt
    scores: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Golden:
    """A picture, its clicks, and the bounds by the name of the image encoder's file."""

    image: bytes
    clicks: tuple[Click, ...]
    bounds: dict[str, dict[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Golden:
        """As sam3-export has written them.

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
    """Whether the server answers the golden clicks of a repository as PyTorch does, within its precision's bounds."""
    if reason := configs.lacking(ENCODER):
        return fault("golden", reason, "let it take no traffic: whether its engine is right is not known")
    try:
        golden = Golden.read(repository / FOLDER)
    except OSError as error:
        return fault("golden", f"no golden clicks: {error.filename}: {error.strerror}", EXPORT_AGAIN)
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = f"{repository / FOLDER} is damaged ({type(error).__name__}: {error})"
        return fault("golden", reason, EXPORT_AGAIN)
    file_name = str(configs.by_model[ENCODER].get("default_model_filename"))
    if file_name not in golden.bounds:
        return fault("golden", f"the server runs {file_name}, which this export does not have", EXPORT_AGAIN)
    return _replay(url, golden, golden.bounds[file_name], file_name)


def _replay(url: str, golden: Golden, bounds: dict[str, float], file_name: str) -> Finding:
    drifts = []
    try:
        with Sam3Client(url, timeout_s=_TIMEOUT_S) as client:
            for click in golden.clicks:
                drift = _drift(client.segment(golden.image, click.prompt), click)
                if not _within(drift, bounds):
                    told = f"{click.name}: {_told(drift)}; the bounds of {file_name} are {_told(bounds)}"
                    return fault("golden", told, _WRONG)
                drifts.append(drift)
    except Sam3Error as error:
        return fault("golden", str(error), "see what is not ready above, and the server's log")
    worst = {
        "logits": max(drift["logits"] for drift in drifts),
        "score": max(drift["score"] for drift in drifts),
        "mask_iou": min(drift["mask_iou"] for drift in drifts),
    }
    return ok("golden", f"{len(drifts)} golden clicks on {file_name} are PyTorch's: {_told(worst)}")


def _drift(answer: Prediction, click: Click) -> dict[str, float]:
    """As sam3-export measures it: logits as a fraction of the largest, scores, and the lowest IoU of a mask."""
    found = answer.low_res_logits
    if found.shape != click.logits.shape or answer.scores.shape != click.scores.shape:
        return {"logits": float("inf"), "score": float("inf"), "mask_iou": 0.0}
    return {
        "logits": float(np.abs(found - click.logits).max() / max(1.0, np.abs(click.logits).max())),
        "score": float(np.abs(answer.scores - click.scores).max()),
        "mask_iou": min(_iou(left > 0, right > 0) for left, right in zip(found, click.logits, strict=True)),
    }


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    either = np.logical_or(left, right).sum()
    return float(np.logical_and(left, right).sum() / either) if either else 1.0


def _within(drift: dict[str, float], bounds: dict[str, float]) -> bool:
    """NaN is not."""
    small = drift["logits"] <= bounds["logits"] and drift["score"] <= bounds["score"]
    return small and drift["mask_iou"] >= bounds["mask_iou"]


def _told(drift: dict[str, float]) -> str:
    return f"logits {drift['logits']:.1e} of scale, scores {drift['score']:.1e}, mask IoU {drift['mask_iou']:.3f}"
