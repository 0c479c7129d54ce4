"""What each profile's precision costs: masks of the demonstration model, through the real server, on held-out scenes.

The profiles for GPUs run here too, moved to the CPU: the same artifacts, with features in fp16 between the models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from repository import copy_repository, formats_here, link_artifacts, move_to_cpu
from sam3_demo.held_out import box_of, held_out, overlap
from sam3_triton import Sam3Client
from sam3_triton.cli import main

SCENES = 40
# For profiles whose answers differ only in the last digits, and those slow in PyTorch's fp16 and bf16 on a CPU.
FEW_SCENES = 8


@pytest.fixture(scope="module")
def demo_on_cpu(exported_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration model's repository, with the profiles for GPUs moved to the CPU beside it."""
    folder = tmp_path_factory.mktemp("on-cpu")
    repository = copy_repository(folder)
    link_artifacts(exported_demo, repository)
    for profile in ("gpu", "torchscript-gpu", "torchscript-gpu-bf16"):
        move_to_cpu(folder / "ensemble_configs" / profile)
    return repository


@pytest.mark.parametrize(
    ("profile", "scenes", "least", "exact"),
    [
        ("cpu", FEW_SCENES, 0.9999, True),
        ("torchscript", FEW_SCENES, 0.9999, True),
        ("gpu", SCENES, 0.99, False),
        ("torchscript-gpu", FEW_SCENES, 0.99, False),
        ("cpu-bf16", FEW_SCENES, 0.98, False),
        ("torchscript-gpu-bf16", FEW_SCENES, 0.98, False),
        ("cpu-int8", SCENES, 0.97, False),
    ],
)
def test_masks_are_those_of_fp32(
    serve, exported_demo: Path, demo_on_cpu: Path, profile: str, scenes: int, least: float, exact: bool
) -> None:
    if profile == "cpu-int8" and "onnx-int8" not in formats_here():
        pytest.skip("this CPU has no VNNI")
    same, found, differences = [], [], []
    other = serve(demo_on_cpu, profile)
    with Sam3Client(serve(exported_demo).grpc_url) as full, Sam3Client(other.grpc_url) as client:
        for scene, targets in held_out("plain", scenes):
            for target in targets:
                box = (box_of(target).flatten().numpy() * scene.image.shape[0]).tolist()
                point = np.argwhere(target)[target.sum() // 2][::-1].tolist()
                for prompt in ({"points": [point]}, {"box": box}):
                    expected, answer = full.predict(scene.image, **prompt), client.predict(scene.image, **prompt)
                    same.append(overlap(answer.masks[0], expected.masks[0]))
                    found.append(overlap(answer.masks[0], target))
                    differences.append(np.abs(answer.low_res_logits - expected.low_res_logits).max())
    # A different precision is a different artifact, with different answers.
    assert max(differences) < 1e-2 if exact else max(differences) > 1e-2
    assert np.mean(same) >= least
    assert np.mean(found) >= 0.75
    assert main(["doctor", "--url", other.grpc_url, "--repository", str(demo_on_cpu), "--golden"]) == 0
