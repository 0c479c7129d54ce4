"""Meta's masks, through client, ensemble and PNG, with both formats."""

from __future__ import annotations

from pathlib import Path

import golden
import numpy as np
import pytest
from sam3_triton import Sam3Client

CASES = [case for folder in golden.FOLDERS for case in golden.cases(folder)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.weights}-{case.name}")
@pytest.mark.parametrize("profile", [None, "torchscript"], ids=["onnx", "torchscript"])
def test_masks_are_metas(case: golden.Case, profile: str | None, serve, exported_for) -> None:
    with Sam3Client(serve(exported_for(case), profile).grpc_url) as client:
        prediction = client.predict(case.photo, **case.prompt)
    assert prediction.scores.shape == case.scores.shape
    assert (np.diff(prediction.scores) <= 0).all()
    assert np.abs(prediction.scores - case.scores).max() <= golden.SCORE_TOLERANCE
    assert np.abs(prediction.low_res_logits - case.low_res_logits).max() <= golden.LOGIT_TOLERANCE
    assert prediction.masks.shape == case.masks.shape
    for mask, expected in zip(prediction.masks, case.masks, strict=True):
        assert golden.iou(mask, expected) >= golden.MINIMUM_IOU


def test_the_profile_is_the_one_that_runs(serve, exported: Path) -> None:
    from tritonclient.grpc import InferenceServerClient

    for profile, backend in ((None, "onnxruntime"), ("torchscript", "pytorch")):
        with InferenceServerClient(serve(exported, profile).grpc_url) as client:
            for model in ("sam3_image_encoder", "sam3_mask_decoder"):
                config = client.get_model_config(model).config
                assert config.backend == backend
                assert config.parameters["profile"].string_value == (profile or "default")
