"""Golden concepts on a server whose configs cannot all be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from sam3_triton.doctor.golden import FOLDER
from sam3_triton.doctor.golden_concepts import check_golden_concepts
from sam3_triton.doctor.server import DETECTOR, ENCODER, Configs


def test_an_image_encoder_without_a_config_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "image.png")
    (folder / "concepts.json").write_text(json.dumps({"concepts": [], "smallest_mask": 0.001, "bounds": {}}))
    np.savez(folder / "concept_masks.npz")
    configs = Configs({DETECTOR: {}}, {ENCODER: "the config of sam3_image_encoder cannot be read (refused)"})
    finding = check_golden_concepts("localhost:1", configs, tmp_path)
    assert finding.text == "the config of sam3_image_encoder cannot be read (refused)"
