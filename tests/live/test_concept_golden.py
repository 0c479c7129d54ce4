"""Meta's instances for the reference cases, through ensemble and PNG; and its masks for clicks on these weights."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
import tritonclient.grpc
from concept_prompts import ConceptPrompt, lay_out_concept
from golden_concepts import BOX_TOLERANCE, FP16_MINIMUM_IOU, MINIMUM_IOU, SCORE_TOLERANCE, ConceptCase, cases
from PIL import Image
from repository import copy_repository, infer, link_artifacts, move_to_cpu
from sam3_triton import Sam3Client

OUTPUTS = ("MASKS", "SCORES", "INSTANCE_BOXES", "PRESENCE", "TOTAL", "ORIGINAL_SIZE")
SIZE, QUERIES = 336, 20
PRESENCE_TOLERANCE = 0.002


def masks_of(pngs: np.ndarray) -> np.ndarray:
    """Masks bool [K, height, width] of PNG files."""
    return np.array([np.asarray(Image.open(io.BytesIO(png))) == 255 for png in pngs])


def inputs_of(case: ConceptCase) -> dict[str, Any]:
    inputs: dict[str, Any] = {"IMAGE": case.photo.read_bytes(), "THRESHOLD": np.array([case.threshold], np.float32)}
    if case.text is not None:
        inputs["TEXT"] = case.text.encode()
    if len(case.boxes):
        inputs["BOXES"] = np.array(case.boxes, np.float32)
        inputs["BOX_LABELS"] = np.array(case.box_labels, np.int32)
    return inputs


def check(case: ConceptCase, answer: dict[str, Any], minimum_iou: float = MINIMUM_IOU) -> None:
    """Checks that an answer holds the instances that Meta's processor returns."""
    count = len(case.scores)
    assert answer["TOTAL"].tolist() == [count]
    assert {len(answer[name]) for name in ("MASKS", "SCORES", "INSTANCE_BOXES")} == {count}
    assert (np.diff(answer["SCORES"]) <= 0).all()
    assert answer["PRESENCE"].shape == (1,)
    assert abs(answer["PRESENCE"][0] - case.presence) <= PRESENCE_TOLERANCE
    height, width = answer["ORIGINAL_SIZE"].tolist()
    left = list(range(count))
    for score, box, mask in zip(answer["SCORES"], answer["INSTANCE_BOXES"], masks_of(answer["MASKS"]), strict=True):
        assert mask.shape == (height, width)
        # Instances whose scores are nearly equal may change places.
        (match,) = [
            index
            for index in left
            if abs(score - case.scores[index]) <= SCORE_TOLERANCE
            and np.abs((box - case.instance_boxes[index]) / [width, height, width, height]).max() <= BOX_TOLERANCE
            and golden.iou(mask, case.masks[index]) >= minimum_iou
        ]
        left.remove(match)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_instances_are_metas(case: ConceptCase, serve, exported_concepts) -> None:
    with tritonclient.grpc.InferenceServerClient(serve(exported_concepts).grpc_url) as client:
        answer = infer(client, tritonclient.grpc, inputs_of(case), OUTPUTS, "sam3_concept")
    check(case, answer)


@pytest.fixture(scope="module")
def on_cpu(exported_concepts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with the profile `gpu` moved to the CPU beside it."""
    repository = copy_repository(tmp_path_factory.mktemp("on-cpu"))
    link_artifacts(exported_concepts, repository)
    move_to_cpu(repository.parent / "ensemble_configs" / "gpu")
    return repository


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
@pytest.mark.parametrize(
    ("profile", "minimum_iou"), [(None, MINIMUM_IOU), ("torchscript", MINIMUM_IOU), ("gpu", FP16_MINIMUM_IOU)]
)
def test_from_metas_own_pixels_every_mask_is_metas(
    case: ConceptCase, profile: str | None, minimum_iou: float, serve, exported_concepts: Path, on_cpu: Path
) -> None:
    # Sends the pixels that Meta's processor makes through the models, one after the other.
    inputs = inputs_of(case)
    server = serve(on_cpu if profile == "gpu" else exported_concepts, profile)
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:

        def run(model: str, inputs: dict[str, Any], *outputs: str) -> dict[str, Any]:
            return infer(client, tritonclient.grpc, inputs, outputs, model)

        pixels, size = metas_pixels(case.photo)
        prompt = ConceptPrompt(
            inputs.get("TEXT"), inputs.get("BOXES"), inputs.get("BOX_LABELS"), float(inputs["THRESHOLD"][0])
        )
        layout = {name.upper(): array for name, array in vars(lay_out_concept(prompt, size, QUERIES)).items()}
        features = run("sam3_image_encoder", {"PIXELS": pixels}, "BACKBONE_FEATURES")
        text = run("sam3_text_cache", {"TEXT": layout["TEXT"]}, "TEXT_FEATURES", "TEXT_MASK")
        example = {name: layout[name] for name in ("BOX_COORDS", "BOX_LABELS", "RANKS")}
        found = run(
            "sam3_concept_detector", {**features, **text, **example}, "SCORES", "BOXES", "MASK_LOGITS", "PRESENCE"
        )
        options = {name: layout[name] for name in ("THRESHOLD", "MAX_INSTANCES", "NMS_IOU", "WITH_MASKS")}
        image = {"HAS_CONCEPT": np.array([True]), "ORIGINAL_SIZE": np.array(size, np.int32)}
        answer = run("sam3_concept_postprocess", {**found, **options, **image}, *OUTPUTS)
    check(case, answer, minimum_iou)


def metas_pixels(photo: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels uint8 [1, S, S, 3], as torchvision resizes uint8 images, and the original (height, width)."""
    image = np.array(Image.open(photo).convert("RGB"))
    channels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(channels, (SIZE, SIZE), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).numpy(), image.shape[:2]


@pytest.mark.parametrize("case", golden.cases(golden.FOLDER_CONCEPTS), ids=lambda case: case.name)
def test_clicks_are_metas_too(case: golden.Case, serve, exported_concepts) -> None:
    with Sam3Client(serve(exported_concepts).grpc_url) as client:
        prediction = client.predict(case.photo, **case.prompt)
    assert np.abs(prediction.scores - case.scores).max() <= golden.SCORE_TOLERANCE
    assert np.abs(prediction.low_res_logits - case.low_res_logits).max() <= golden.LOGIT_TOLERANCE
    for mask, expected in zip(prediction.masks, case.masks, strict=True):
        assert golden.iou(mask, expected) >= golden.MINIMUM_IOU
