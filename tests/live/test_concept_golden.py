"""Meta's instances for the reference cases, through ensemble and PNG; and its masks for clicks on these weights."""

from __future__ import annotations

import io
from typing import Any

import golden
import golden_concepts
import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image
from repository import infer
from sam3_triton import Sam3Client

OUTPUTS = ("MASKS", "SCORES", "INSTANCE_BOXES", "PRESENCE", "TOTAL", "TRUNCATED", "ORIGINAL_SIZE")
SCORE_TOLERANCE = 0.005
# Of the picture's sides.
BOX_TOLERANCE = 0.005
MINIMUM_IOU = 0.99
PRESENCE_TOLERANCE = 0.002


def masks_of(pngs: np.ndarray) -> np.ndarray:
    """Masks bool [K, height, width] of PNG files."""
    return np.array([np.asarray(Image.open(io.BytesIO(png))) == 255 for png in pngs])


def inputs_of(case: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {"IMAGE": case.photo.read_bytes(), "THRESHOLD": np.array([case.threshold], np.float32)}
    if case.text is not None:
        inputs["TEXT"] = case.text.encode()
    if len(case.boxes):
        inputs["BOXES"] = np.array(case.boxes, np.float32)
        inputs["BOX_LABELS"] = np.array(case.box_labels, np.int32)
    return inputs


@pytest.mark.parametrize("case", golden_concepts.cases(), ids=lambda case: case.name)
def test_instances_are_metas(case: Any, serve, exported_concepts) -> None:
    with tritonclient.grpc.InferenceServerClient(serve(exported_concepts).grpc_url) as client:
        answer = infer(client, tritonclient.grpc, inputs_of(case), OUTPUTS, "sam3_concept")
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
            and np.abs((box - case.boxes_found[index]) / [width, height, width, height]).max() <= BOX_TOLERANCE
            and golden.iou(mask, case.masks[index]) >= MINIMUM_IOU
        ]
        left.remove(match)
    assert not left


@pytest.mark.parametrize("case", golden_concepts.click_cases(), ids=lambda case: case.name)
def test_clicks_are_metas_too(case: golden.Case, serve, exported_concepts) -> None:
    with Sam3Client(serve(exported_concepts).grpc_url) as client:
        prediction = client.predict(case.photo, **case.prompt)
    assert np.abs(prediction.scores - case.scores).max() <= golden.SCORE_TOLERANCE
    assert np.abs(prediction.low_res_logits - case.low_res_logits).max() <= golden.LOGIT_TOLERANCE
    for mask, expected in zip(prediction.masks, case.masks, strict=True):
        assert golden.iou(mask, expected) >= golden.MINIMUM_IOU
