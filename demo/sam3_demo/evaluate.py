"""Measures a checkpoint on held-out scenes; writes report.json and report.md beside it, and picture sheets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sam3_export import checkpoint
from sam3_export.demo import CHECKPOINT

from sam3_demo import report
from sam3_demo.held_out import box_of, held_out, overlap
from sam3_demo.predictor import Predictor
from sam3_demo.prompts import Prompts, deepest_click
from sam3_demo.scenes import STYLES
from sam3_demo.sheets import photo_sheet, scene_sheet

SCENES = 300


def measure(predictor: Predictor, style: str, count: int) -> dict[str, float]:
    """Mean figures over the held-out scenes of a style; see `report.MEANINGS`."""
    rows: list[dict[str, float]] = []
    scores: list[float] = []
    truths: list[float] = []
    for scene, targets in held_out(style, count):
        predictor.look_at(scene.image)
        for target in targets:
            nothing = np.zeros_like(target)
            coords, _ = deepest_click(nothing, target)
            first = Prompts.clicks(torch.from_numpy(coords)[None])
            candidates = predictor.answer(first, multimask=True)
            right = [overlap(mask, target) for mask in candidates.masks]
            scores.extend(candidates.scores.tolist())
            truths.extend(right)
            boxed = predictor.answer(Prompts.boxes(box_of(target))).masks[0]
            row = {"best_of_three": max(right), "highest_scored": right[0], "box": overlap(boxed, target)}
            rows.append(row | _refined(predictor, first, target))
        print(f"\r{style}: {len(rows)} targets", end="", flush=True)
    print()
    figures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return figures | {"score_correlation": float(np.corrcoef(scores, truths)[0, 1]), "targets": len(rows)}


def _refined(predictor: Predictor, first: Prompts, target: NDArray[np.bool_]) -> dict[str, float]:
    """IoU of the single mask after one, two and three clicks, with and without the earlier answer as mask input."""
    figures = {}
    for with_mask in (False, True):
        prompts, logits = first, None
        for clicks in (1, 2, 3):
            answer = predictor.answer(prompts, mask=logits)
            figures[f"clicks_{clicks}" + ("_mask_input" if with_mask else "")] = overlap(answer.masks[0], target)
            coords, label = deepest_click(answer.masks[0], target)
            prompts = prompts.add(torch.from_numpy(coords)[None], torch.tensor([label], dtype=torch.int32))
            logits = answer.logits[0] if with_mask else None
    del figures["clicks_1_mask_input"]  # the first click has no earlier answer
    return figures


def evaluate(path: Path, training: dict[str, object] | None, sheets: Path, count: int = SCENES) -> None:
    """Measures the checkpoint at `path` and writes its report and picture sheets.

    Args:
        training: how it was trained, for the report; None keeps the entry of the existing report.
        sheets: directory for the picture sheets.
    """
    predictor = Predictor(checkpoint.load(str(path), path.with_suffix(".json")))
    results = {style: measure(predictor, style, count) for style in STYLES}
    report.write(path.with_name("report.json"), training, count, results)
    sheets.mkdir(parents=True, exist_ok=True)
    for style in STYLES:
        scene_sheet(predictor, style, sheets / f"scenes-{style}.jpg")
    photo_sheet(predictor, sheets / "photos.jpg")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m sam3_demo.evaluate", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="checkpoint to measure (default: the demonstration model)"
    )
    parser.add_argument("--sheets", type=Path, required=True, help="directory for the picture sheets")
    parser.add_argument("--scenes", type=int, default=SCENES, help="held-out scenes per style (default %(default)s)")
    options = parser.parse_args(arguments)
    evaluate(options.checkpoint, None, options.sheets, options.scenes)


if __name__ == "__main__":
    main()
