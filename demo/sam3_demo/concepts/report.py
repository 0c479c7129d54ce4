"""The evaluation report of the concept half: JSON for programs, a Markdown table for people."""

from __future__ import annotations

import json
from pathlib import Path

MEANINGS = {
    "f1_single": "phrases with one attribute, F1",
    "f1_pair": "phrases with two attributes, F1",
    "f1_triple": "phrases with three attributes, F1",
    "f1_boxes": "example boxes without a text, F1",
    "presence": "presence, accuracy (half of the phrases are in the picture)",
    "swap": "another colour or shape: objects that only their own phrase finds",
}
# Minimum figures for a checkpoint that is shipped.
BARS = {"f1_single": 0.7, "f1_pair": 0.6, "f1_boxes": 0.6, "presence": 0.9, "swap": 0.8}


def write(path: Path, training: dict[str, object] | None, scenes: int, figures: dict[str, float]) -> None:
    """Writes `path` and the Markdown table beside it."""
    if training is None:
        training = json.loads(path.read_text())["training"] if path.exists() else {}
    path.write_text(json.dumps({"training": training, "scenes": scenes, "results": figures}, indent=2) + "\n")
    lines = [
        "# Finding by name and by example, measured",
        "",
        f"Measured on {scenes} held-out scenes at the threshold of 0.5. An instance is right if its mask has an IoU of",
        "at least 0.5 with an object that matches; each object counts once. Half of the phrases match nothing: each",
        "instance found for them is wrong.",
        "",
        "| figure | bar | measured |",
        "|---|---|---|",
        *(
            f"| {meaning} | {f'{BARS[name]:.2f}' if name in BARS else ''} | {figures[name]:.3f} |"
            for name, meaning in MEANINGS.items()
        ),
        "",
        "Training:",
        "",
        *(f"- {name}: {value}" for name, value in training.items()),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines))
