"""`find` of both clients against the real server. That its answers are Meta's is tested in test_concept_golden.py."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import golden_concepts
import numpy as np
import pytest
from observer import Observer
from pictures import fresh_image
from sam3_triton import (
    AsyncSam3Client,
    CachedImage,
    ConceptPrompt,
    ImageNotCachedError,
    Instances,
    InvalidInputError,
    Sam3Client,
)

CASE = next(case for case in golden_concepts.cases() if case.name == "coffee/text_and_two_boxes")
TEXTS = ["A red coffee cup", "cat", "naïve café façade", "rocket; launch-pad (white)"]
# Of the golden network's 20 queries, some pass.
SOME = 0.45


@pytest.fixture(scope="module")
def concept_server(serve, exported_concepts: Path):
    return serve(exported_concepts)


@pytest.fixture(params=["grpc", "http", "async grpc", "async http", "shared memory"])
def find(request: pytest.FixtureRequest, concept_server) -> Callable[..., Any]:
    """`find`, or another method by its name, of each client over each protocol."""
    url = f"http://{concept_server.http_url}" if "http" in request.param else concept_server.grpc_url

    def call(*arguments: Any, method: str = "find", **options: Any) -> Any:
        if request.param.startswith("async"):
            return asyncio.run(awaited(method, *arguments, **options))
        with Sam3Client(url, shared_memory=request.param == "shared memory") as client:
            return getattr(client, method)(*arguments, **options)

    async def awaited(method: str, *arguments: Any, **options: Any) -> Any:
        async with AsyncSam3Client(url) as client:
            return await getattr(client, method)(*arguments, **options)

    return call


def assert_same(left: Instances, right: Instances) -> None:
    """The same but for rounding, which depends on the other requests in a batch."""
    assert (left.text, left.total, left.truncated) == (right.text, right.total, right.truncated)
    assert left.presence == pytest.approx(right.presence, abs=1e-5)
    assert left.scores == pytest.approx(right.scores, abs=1e-5)
    assert left.boxes == pytest.approx(right.boxes, abs=0.05)
    assert min(golden.iou(*pair) for pair in zip(left.masks, right.masks, strict=True)) > 0.99


def test_words_and_examples_find_metas_instances(find: Callable[..., Any]) -> None:
    assert find(method="serves_concepts") is True
    found = find(CASE.photo, text=CASE.text, boxes=CASE.boxes, box_labels=CASE.box_labels, threshold=CASE.threshold)
    assert len(found.scores) == found.total == len(CASE.scores)
    assert found.scores == pytest.approx(CASE.scores, abs=golden_concepts.SCORE_TOLERANCE)
    assert found.presence == pytest.approx(CASE.presence, abs=golden_concepts.SCORE_TOLERANCE)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert (found.scores > CASE.threshold).all()
    assert found.boxes.shape == (len(CASE.scores), 4)
    assert found.masks.shape == (len(CASE.scores), *CASE.size)
    assert found.image_size == CASE.size[::-1]
    assert not found.truncated
    assert found.model.name == "SAM 3"


def test_several_texts_are_the_same_as_one_after_the_other(find: Callable[..., Any]) -> None:
    found = find(CASE.photo, text=TEXTS, threshold=SOME)
    assert [each.text for each in found] == TEXTS
    assert len({each.presence for each in found}) == len(TEXTS)
    for each in found:
        assert_same(each, find(CASE.photo, text=each.text, threshold=SOME))
    with_boxes = find(CASE.photo, text=tuple(TEXTS[:2]), boxes=CASE.boxes, box_labels=CASE.box_labels, threshold=SOME)
    assert_same(with_boxes[0], find(CASE.photo, text=TEXTS[0], boxes=CASE.boxes, box_labels=[1, 0], threshold=SOME))


def test_the_image_of_several_texts_is_encoded_once(find: Callable[..., Any], concept_server) -> None:
    observer = Observer(concept_server)
    encodes, image = observer.inferences("sam3_image_encoder"), fresh_image()
    found = find(image, text=TEXTS)
    assert [each.cache_hit for each in found] == [False, True, True, True]
    assert find(image, method="predict", points=[[5, 5]]).cache_hit
    assert find(image_id=found[0].image_id, text="another text").cache_hit
    assert observer.inferences("sam3_image_encoder") == encodes + 1


def test_options(find: Callable[..., Any]) -> None:
    all_of_them = find(CASE.photo, text="cat", threshold=0)
    assert len(all_of_them.scores) == all_of_them.total == 20
    best = find(CASE.photo, text="cat", threshold=0, max_instances=3)
    assert best.total == 20
    assert best.mask_pngs == all_of_them.mask_pngs[:3]
    without = find(CASE.photo, text="cat", threshold=0, masks=False)
    assert without.mask_pngs == ()
    assert np.array_equal(without.scores, all_of_them.scores)
    assert np.array_equal(without.boxes, all_of_them.boxes)
    apart = find(CASE.photo, text="cat", threshold=0, nms_iou=0.2)
    assert len(apart.scores) < apart.total == 20
    assert apart.mask_pngs[0] == all_of_them.mask_pngs[0]


def test_nothing_found_is_an_answer(find: Callable[..., Any]) -> None:
    found = find(CASE.photo, text="cat", threshold=1)
    assert (found.total, found.mask_pngs) == (0, ())
    assert (found.scores.shape, found.boxes.shape, found.masks.shape) == ((0,), (0, 4), (0, *CASE.size))


def test_a_long_text_is_cut(find: Callable[..., Any]) -> None:
    assert find(CASE.photo, text="word " * 2000, masks=False).truncated
    assert not find(CASE.photo, boxes=CASE.boxes[:1], masks=False).truncated


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ({"text": "a\x07b"}, "control character"),
        ({"text": "&nbsp;"}, "empty"),
        ({"boxes": [[-9, -9, -1, -1]]}, "outside the image"),
        ({"boxes": [[1, 2, 3, 4]] * 33}, "at most 32"),
    ],
)
def test_what_only_the_server_can_tell_is_one_line(
    find: Callable[..., Any], prompt: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InvalidInputError, match=fault) as error:
        find(CASE.photo, **prompt)
    assert "\n" not in str(error.value)
    assert "ensemble" not in str(error.value)


def test_an_unknown_id_is_an_error_every_time(find: Callable[..., Any]) -> None:
    """The cache's error and the answer of the text cache may come at the same time."""
    concepts = [ConceptPrompt.of("cat")] * 4
    for number in range(30):
        with pytest.raises(ImageNotCachedError):
            find(CachedImage(f"{number:064x}"), concepts, method="find_concepts")


def test_both_clients_have_the_same_parameters() -> None:
    for name in ("find", "find_concepts", "serves_concepts"):
        left, right = (inspect.signature(getattr(client, name)) for client in (Sam3Client, AsyncSam3Client))
        assert left.parameters == right.parameters
