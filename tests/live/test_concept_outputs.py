"""The public tensors of sam3_concept: every kind of subset of the outputs, their shapes and types, and the options."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import golden
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from observer import Observer
from pictures import fresh_image
from PIL import Image
from repository import infer
from tritonclient.utils import InferenceServerException

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()  # 600 x 400
ID = hashlib.sha256(PHOTO).hexdigest().encode()
FOUND = ("MASKS", "SCORES", "INSTANCE_BOXES", "PRESENCE", "TOTAL", "TRUNCATED", "ORIGINAL_SIZE")
OF_IMAGE = ("IMAGE_ID", "CACHE_HIT", "MODEL")
OUTPUTS = (*FOUND, *OF_IMAGE)
SUBSETS = [
    subset for size in (1, 2, len(OUTPUTS) - 1, len(OUTPUTS)) for subset in itertools.combinations(OUTPUTS, size)
]
# Of the golden checkpoint, whose weights are random: below every score.
ALL = np.array([0], np.float32)
QUERIES = 20
TEXT = {"CACHED_IMAGE_ID": ID, "TEXT": b"A red coffee cup"}
BOXES = np.array([[150, 80, 450, 320]], np.float32)

Find = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(serve, exported_concepts):
    return serve(exported_concepts)


@pytest.fixture(scope="module", params=["grpc", "http"])
def find(request: pytest.FixtureRequest, server) -> Iterator[Find]:
    """Sends inputs to `sam3_concept` in Triton's own terms, over gRPC and over HTTP."""
    module = {"grpc": tritonclient.grpc, "http": tritonclient.http}[request.param]
    client = module.InferenceServerClient(server.grpc_url if request.param == "grpc" else server.http_url)

    def send(inputs: dict[str, Any], outputs: tuple[str, ...] = OUTPUTS) -> dict[str, Any]:
        return infer(client, module, inputs, outputs, "sam3_concept")

    send({"IMAGE": PHOTO}, ("IMAGE_ID",))
    yield send
    client.close()


def number(value: Any) -> np.ndarray:
    return np.array([value], np.float32 if isinstance(value, float) else np.int32)


def test_every_subset_of_the_outputs_can_be_requested(find: Find) -> None:
    for prompt in (TEXT, {"CACHED_IMAGE_ID": ID, "BOXES": BOXES}):
        whole = find({**prompt, "THRESHOLD": ALL})
        for subset in SUBSETS:
            answer = find({**prompt, "THRESHOLD": ALL}, subset)
            assert set(answer) == set(subset)
            for name in subset:
                np.testing.assert_array_equal(answer[name], whole[name])


@pytest.mark.parametrize("by", [{"IMAGE": PHOTO}, {"CACHED_IMAGE_ID": ID}], ids=["image", "id"])
@pytest.mark.parametrize("subset", [("IMAGE_ID",), ("CACHE_HIT", "MODEL"), OF_IMAGE], ids="+".join)
def test_without_a_prompt_the_image_outputs_can_be_requested(find: Find, subset: tuple[str, ...], by: dict) -> None:
    answer = find(by, subset)
    assert set(answer) == set(subset)
    if "IMAGE_ID" in answer:
        assert answer["IMAGE_ID"].tolist() == [ID]


@pytest.mark.parametrize("name", [name for name in FOUND if name != "TRUNCATED"])
def test_the_others_need_a_prompt(find: Find, name: str) -> None:
    with pytest.raises(InferenceServerException, match="no prompt: give TEXT, BOXES or both") as caught:
        find({"CACHED_IMAGE_ID": ID}, (name,))
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")


def test_the_id_alone_runs_no_detector(find: Find, server) -> None:
    models = ("sam3_concept_detector", "sam3_concept_postprocess")
    observer = Observer(server)
    before = [observer.inferences(model) for model in models]
    image = fresh_image()
    for prompt in ({}, {"TEXT": b"cat"}):
        assert find({"IMAGE": image, **prompt}, ("IMAGE_ID",))["IMAGE_ID"][0].decode() == (
            hashlib.sha256(image).hexdigest()
        )
    assert [observer.inferences(model) for model in models] == before
    find({"IMAGE": image, "TEXT": b"cat"}, ("TOTAL",))
    assert [observer.inferences(model) for model in models] == [count + 1 for count in before]


def test_shapes_and_types(find: Find) -> None:
    answer = find({**TEXT, "THRESHOLD": ALL})
    assert {name: (array.shape, str(array.dtype)) for name, array in answer.items()} == {
        "MASKS": ((QUERIES,), "object"),
        "SCORES": ((QUERIES,), "float32"),
        "INSTANCE_BOXES": ((QUERIES, 4), "float32"),
        "PRESENCE": ((1,), "float32"),
        "TOTAL": ((1,), "int32"),
        "TRUNCATED": ((1,), "bool"),
        "ORIGINAL_SIZE": ((2,), "int32"),
        "IMAGE_ID": ((1,), "object"),
        "CACHE_HIT": ((1,), "bool"),
        "MODEL": ((2,), "object"),
    }
    assert answer["ORIGINAL_SIZE"].tolist() == [400, 600]
    for png in answer["MASKS"]:
        image = Image.open(io.BytesIO(png))
        assert (image.format, image.size, image.mode) == ("PNG", (600, 400), "L")


def test_no_instance_is_an_answer(find: Find) -> None:
    answer = find({**TEXT, "THRESHOLD": number(1.0)})
    assert answer["MASKS"].shape == (0,)
    assert answer["SCORES"].shape == (0,)
    assert answer["INSTANCE_BOXES"].shape == (0, 4)
    assert answer["TOTAL"].tolist() == [0]


def test_instances_have_greater_scores_than_the_threshold(find: Find) -> None:
    scores = find({**TEXT, "THRESHOLD": ALL})["SCORES"]
    for index in (0, 4, 11):
        answer = find({**TEXT, "THRESHOLD": scores[index : index + 1]})
        np.testing.assert_array_equal(answer["SCORES"], scores[scores > scores[index]])
        assert answer["TOTAL"].tolist() == [len(answer["SCORES"])]


@pytest.mark.parametrize("most", [1, 3, QUERIES, 1000])
def test_at_most_max_instances_are_returned_the_best_first(find: Find, most: int) -> None:
    whole = find({**TEXT, "THRESHOLD": ALL})
    answer = find({**TEXT, "THRESHOLD": ALL, "MAX_INSTANCES": number(most)})
    for name in ("MASKS", "SCORES", "INSTANCE_BOXES"):
        np.testing.assert_array_equal(answer[name], whole[name][:most])
    assert answer["TOTAL"].tolist() == [QUERIES]


def test_without_masks_the_rest_is_the_same(find: Find) -> None:
    whole = find({**TEXT, "THRESHOLD": ALL})
    answer = find({**TEXT, "THRESHOLD": ALL, "WITH_MASKS": np.array([False])})
    assert answer["MASKS"].shape == (0,)
    for name in ("SCORES", "INSTANCE_BOXES", "TOTAL"):
        np.testing.assert_array_equal(answer[name], whole[name])


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_duplicates_are_dropped_if_asked_for(find: Find, iou: float) -> None:
    whole = find({**TEXT, "THRESHOLD": ALL})
    answer = find({**TEXT, "THRESHOLD": ALL, "NMS_IOU": number(iou)})
    masks = [np.asarray(Image.open(io.BytesIO(png))) == 255 for png in answer["MASKS"]]
    assert 0 < len(masks) < QUERIES
    assert answer["SCORES"][0] == whole["SCORES"][0]
    assert set(answer["SCORES"].tolist()) <= set(whole["SCORES"].tolist())
    assert answer["TOTAL"].tolist() == [QUERIES]
    for left, right in itertools.combinations(masks, 2):
        assert golden.iou(left, right) <= iou + 0.02  # they are compared before they are resized


def test_boxes_alone_mean_visual(find: Find) -> None:
    boxes = {"CACHED_IMAGE_ID": ID, "BOXES": BOXES, "THRESHOLD": ALL}
    alone, visual, other = (find({**boxes, **text}) for text in ({}, {"TEXT": b"visual"}, {"TEXT": b"cat"}))
    np.testing.assert_array_equal(alone["SCORES"], visual["SCORES"])
    assert np.abs(alone["SCORES"] - other["SCORES"]).max() > 1e-4


def test_labels_matter_and_are_1_by_default(find: Find) -> None:
    boxes = {"CACHED_IMAGE_ID": ID, "BOXES": BOXES, "THRESHOLD": ALL}
    usual, positive, negative = (
        find({**boxes, **labels})["SCORES"] for labels in ({}, {"BOX_LABELS": number(1)}, {"BOX_LABELS": number(0)})
    )
    np.testing.assert_array_equal(usual, positive)
    assert np.abs(usual - negative).max() > 1e-4


def test_whether_a_text_is_cut_is_known_without_the_detector(find: Find, server) -> None:
    observer = Observer(server)
    before = observer.inferences("sam3_concept_detector")
    assert find(TEXT, ("TRUNCATED",))["TRUNCATED"].tolist() == [False]
    assert observer.inferences("sam3_concept_detector") == before


@pytest.mark.parametrize(("words", "truncated"), [(30, False), (31, True), (2000, True)])
def test_an_answer_says_that_its_text_was_cut(find: Find, words: int, truncated: bool) -> None:
    answer = find({"CACHED_IMAGE_ID": ID, "TEXT": b"word " * words}, ("TRUNCATED", "SCORES"))
    assert answer["TRUNCATED"].tolist() == [truncated]
