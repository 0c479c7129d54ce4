"""The public tensors: every subset of the outputs, their shapes and types, prefetch and refinement."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable

import golden
import numpy as np
import pytest
from pictures import fresh_image
from PIL import Image
from repository import OUTPUTS
from tritonclient.utils import InferenceServerException

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()
ID = hashlib.sha256(PHOTO).hexdigest().encode()
POINTS = np.array([[[300, 200]]], np.float32)
DECODED = {"MASKS", "SCORES", "LOW_RES_LOGITS"}
SUBSETS = [subset for size in range(1, 6) for subset in itertools.combinations(OUTPUTS, size)]


@pytest.fixture(scope="module", autouse=True)
def cached(raw: Callable) -> None:
    raw({"IMAGE": PHOTO}, ("IMAGE_ID",))


@pytest.mark.parametrize("by", ["image", "id"])
@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_of_the_outputs_can_be_requested(raw: Callable, subset: tuple[str, ...], by: str) -> None:
    image = {"IMAGE": PHOTO} if by == "image" else {"CACHED_IMAGE_ID": ID}
    whole = raw({**image, "POINTS": POINTS})
    answer = raw({**image, "POINTS": POINTS}, subset)
    assert set(answer) == set(subset)
    for name in subset:
        np.testing.assert_array_equal(answer[name], whole[name])


@pytest.mark.parametrize("by", ["image", "id"])
@pytest.mark.parametrize("subset", [("IMAGE_ID",), ("CACHE_HIT",), ("IMAGE_ID", "CACHE_HIT")], ids="+".join)
def test_without_a_prompt_the_image_outputs_can_be_requested(raw: Callable, subset: tuple[str, ...], by: str) -> None:
    answer = raw({"IMAGE": PHOTO} if by == "image" else {"CACHED_IMAGE_ID": ID}, subset)
    expected = {"IMAGE_ID": ID, "CACHE_HIT": True}
    assert {name: array.tolist() for name, array in answer.items()} == {name: [expected[name]] for name in subset}


@pytest.mark.parametrize("subset", [subset for subset in SUBSETS if DECODED & {*subset}], ids="+".join)
def test_decoder_outputs_need_a_prompt(raw: Callable, subset: tuple[str, ...]) -> None:
    with pytest.raises(InferenceServerException, match="no prompt: give POINTS, BOXES or a MASK_INPUT") as caught:
        raw({"CACHED_IMAGE_ID": ID}, subset)
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")


@pytest.mark.parametrize("subset", [("IMAGE_ID",), OUTPUTS], ids="+".join)
def test_an_invalid_prompt_is_reported_even_for_a_prefetch(raw: Callable, subset: tuple[str, ...]) -> None:
    with pytest.raises(InferenceServerException, match=r"POINTS\[0, 0\] is \(9999, 1\), outside the image"):
        raw({"CACHED_IMAGE_ID": ID, "POINTS": np.array([[[9999, 1]]], np.float32)}, subset)


@pytest.mark.parametrize("prompt", [{}, {"POINTS": POINTS * 0}], ids=["no prompt", "prompt"])
def test_the_id_alone_runs_no_decoder(raw: Callable, inferences: Callable, prompt: dict) -> None:
    models = ("sam3_mask_decoder", "sam3_mask_postprocess")
    before = [inferences(model) for model in models]
    image = fresh_image()
    assert raw({"IMAGE": image, **prompt}, ("IMAGE_ID",))["IMAGE_ID"][0].decode() == hashlib.sha256(image).hexdigest()
    assert [inferences(model) for model in models] == before
    raw({"IMAGE": image, "POINTS": POINTS * 0}, ("SCORES",))
    assert [inferences(model) for model in models] == [count + 1 for count in before]


@pytest.mark.parametrize(("multimask", "count"), [(False, 1), (True, 3), (None, 1)])
def test_shapes_and_types(raw: Callable, multimask: bool | None, count: int) -> None:
    inputs = {"IMAGE": PHOTO, "POINTS": POINTS}
    if multimask is not None:
        inputs["MULTIMASK"] = np.array([multimask])
    answer = raw(inputs)
    assert answer["MASKS"].shape == (1, count)
    assert answer["SCORES"].shape == (1, count)
    assert answer["SCORES"].dtype == np.float32
    assert answer["LOW_RES_LOGITS"].shape == (1, count, 96, 96)
    assert answer["LOW_RES_LOGITS"].dtype == np.float32
    assert np.abs(answer["LOW_RES_LOGITS"]).max() <= 32
    for png in answer["MASKS"][0]:
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG"
        assert image.mode == "L"
        assert image.size == (600, 400)
        assert set(np.unique(np.asarray(image))) <= {0, 255}


def test_an_answer_refines_the_next_one(raw: Callable) -> None:
    first = raw({"CACHED_IMAGE_ID": ID, "POINTS": POINTS}, ("LOW_RES_LOGITS",))["LOW_RES_LOGITS"]
    refined = raw({"CACHED_IMAGE_ID": ID, "POINTS": POINTS, "MASK_INPUT": first[:, 0]}, ("LOW_RES_LOGITS",))
    assert refined["LOW_RES_LOGITS"].shape == (1, 1, 96, 96)
    assert np.abs(refined["LOW_RES_LOGITS"] - first).max() > 0.1


def test_labels_left_out_are_foreground(raw: Callable) -> None:
    left_out = raw({"CACHED_IMAGE_ID": ID, "POINTS": POINTS})
    given = raw({"CACHED_IMAGE_ID": ID, "POINTS": POINTS, "LABELS": np.array([[1]], np.int32)})
    background = raw({"CACHED_IMAGE_ID": ID, "POINTS": POINTS, "LABELS": np.array([[0]], np.int32)})
    assert left_out["MASKS"].tolist() == given["MASKS"].tolist()
    assert left_out["MASKS"].tolist() != background["MASKS"].tolist()
