"""The evaluation report: JSON for programs, a Markdown table for people."""

from __future__ import annotations

import json
from pathlib import Path

MEANINGS = {
    "clicks_1": "single mask after 1 click, IoU",
    "clicks_2": "single mask after 2 clicks, IoU",
    "clicks_3": "single mask after 3 clicks, IoU",
    "clicks_2_mask_input": "after 2 clicks, the earlier answer as mask input, IoU",
    "clicks_3_mask_input": "after 3 clicks, the earlier answer as mask input, IoU",
    "box": "single mask with a box, IoU",
    "best_of_three": "best of three candidates after 1 click, IoU",
    "highest_scored": "highest-scored candidate after 1 click, IoU",
    "score_correlation": "correlation of score and IoU over all candidates",
    "targets": "targets measured",
}
# Minimum figures on the plain scenes, for training on two CPU cores.
BARS = {"clicks_1": 0.68, "clicks_3": 0.78, "box": 0.78, "best_of_three": 0.76, "score_correlation": 0.5}


def write(path: Path, training: dict[str, object] | None, scenes: int, results: dict[str, dict[str, float]]) -> None:
    """Writes `path` and the Markdown table beside it; `results` are the figures of each style of scene."""
    if training is None:
        training = json.loads(path.read_text())["training"] if path.exists() else {}
    content = {"training": training, "scenes": scenes, "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n")
    lines = [
        "# The demonstration checkpoint, measured",
        "",
        f"Measured on {scenes} held-out scenes of each style. The first click is the point furthest inside the target.",
        "Each further click is the point furthest inside the largest wrong region.",
        "",
        "| figure | bar | " + " | ".join(results) + " |",
        "|---|---|" + "---|" * len(results),
    ]
    for name, meaning in MEANINGS.items():
        figures = " | ".join(
            f"{result[name]:.3f}" if name != "targets" else str(result[name]) for result in results.values()
        )
        bar = f"{BARS[name]:.2f}" if name in BARS else "" if name != "highest_scored" else "best - 0.06"
        lines.append(f"| {meaning} | {bar} | {figures} |")
    lines += ["", "Training:", "", *(f"- {name}: {value}" for name, value in training.items()), ""]
    path.with_suffix(".md").write_text("\n".join(lines))
