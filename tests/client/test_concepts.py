"""Concept prompts and their answers, and the calls that they need."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sam3_triton import (
    AsyncSam3Client,
    CachedImage,
    ConceptPrompt,
    ConceptsNotServedError,
    EncodedImage,
    ImageNotCachedError,
    Instances,
    InvalidInputError,
    ServedModel,
    conversations,
)
from sam3_triton.conversations import Conversation
from sam3_triton.triton_errors import translated
from sam3_triton.wire import Arrays, Call
from silent_triton import SilentTriton, silent_triton
from tritonclient.utils import InferenceServerException

PHOTO = EncodedImage.of(np.zeros((4, 6, 3), np.uint8))
MODEL = ServedModel("SAM 3", "5a" * 32)
NO_CONCEPTS = "Request for unknown model: 'sam3_concept' is not found"


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def answer(count: int, total: int, cache_hit: bool = False, masks: bool = True) -> Arrays:
    return {
        "SCORES": np.linspace(0.9, 0.6, count, dtype=np.float32),
        "INSTANCE_BOXES": np.zeros((count, 4), np.float32),
        "MASKS": np.array([png(255)] * count * masks, np.object_),
        "PRESENCE": np.array([0.75], np.float32),
        "TOTAL": np.array([total], np.int32),
        "TRUNCATED": np.array([False]),
        "ORIGINAL_SIZE": np.array([4, 6], np.int32),
        "IMAGE_ID": np.array([b"ab"], np.object_),
        "CACHE_HIT": np.array([cache_hit]),
        "MODEL": np.array([MODEL.name.encode(), MODEL.checkpoint_sha256.encode()], np.object_),
    }


def carry_out(conversation: Conversation[Any], server: Callable[[Call], Arrays | Exception]) -> tuple[Any, list[Call]]:
    """Runs a conversation with a function in the place of the server; returns its result and its calls."""
    calls: list[Call] = []
    try:
        call = next(conversation)
        while True:
            calls.append(call)
            found = server(call)
            call = conversation.throw(found) if isinstance(found, Exception) else conversation.send(found)
    except StopIteration as end:
        return end.value, calls


def test_a_prompt_of_words_becomes_tensors() -> None:
    tensors = ConceptPrompt.of("red car").tensors(32)
    assert {name: array.tolist() for name, array in tensors.items()} == {
        "TEXT": [b"red car"],
        "THRESHOLD": [0.5],
        "MAX_INSTANCES": [32],
        "WITH_MASKS": [True],
    }


def test_a_prompt_of_boxes_becomes_tensors() -> None:
    prompt = ConceptPrompt.of(boxes=[[1, 2, 3, 4], [5, 6, 7, 8]], box_labels=[True, 0], nms_iou=0.5, masks=False)
    tensors = prompt.tensors(10**12)
    assert tensors.keys() == {"BOXES", "BOX_LABELS", "THRESHOLD", "MAX_INSTANCES", "NMS_IOU", "WITH_MASKS"}
    assert tensors["BOXES"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert tensors["BOX_LABELS"].tolist() == [1, 0]
    assert tensors["MAX_INSTANCES"].tolist() == [2**31 - 1]
    assert tensors["WITH_MASKS"].tolist() == [False]
    assert {name: str(array.dtype) for name, array in tensors.items()} == {
        "BOXES": "float32",
        "BOX_LABELS": "int32",
        "THRESHOLD": "float32",
        "MAX_INSTANCES": "int32",
        "NMS_IOU": "float32",
        "WITH_MASKS": "bool",
    }


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({}, "no prompt: give a text or boxes"),
        ({"boxes": []}, "no prompt: give a text or boxes"),
        ({"text": ""}, "the text is empty"),
        ({"text": " \n\t"}, "the text is empty"),
        ({"text": 7}, "text must be a string, not 7"),
        ({"text": "cup \ud800"}, "half of a surrogate pair at character 4"),
        ({"boxes": [[1, 2, 3]]}, r"boxes must have the shape \[N, 4\], not \[1, 3\]"),
        ({"boxes": [[1, 2, 1, 4]]}, r"x0 < x1 and y0 < y1, not \[1.0, 2.0, 1.0, 4.0\]"),
        ({"boxes": [[1, 2, 3, 2]]}, "x0 < x1 and y0 < y1"),
        ({"boxes": [[1, 2, float("inf"), 2]]}, "boxes must be finite"),
        ({"boxes": [[1, 2, 3, 4]], "box_labels": [1, 0]}, "1 boxes, but 2 labels"),
        ({"text": "cup", "box_labels": [1]}, "0 boxes, but 1 labels"),
        ({"boxes": [[1, 2, 3, 4]], "box_labels": [2]}, "a label must be 1"),
        ({"text": "cup", "threshold": 1.01}, "threshold must be from 0 to 1, not 1.01"),
        ({"text": "cup", "threshold": -0.1}, "threshold must be from 0 to 1"),
        ({"text": "cup", "threshold": float("nan")}, "threshold must be from 0 to 1, not nan"),
        ({"text": "cup", "threshold": "high"}, "threshold must be from 0 to 1, not 'high'"),
        ({"text": "cup", "nms_iou": 0}, "nms_iou must be above 0 and at most 1, not 0"),
        ({"text": "cup", "nms_iou": 1.5}, "nms_iou must be above 0 and at most 1"),
        ({"text": "cup", "max_instances": 0}, "max_instances must be an integer of at least 1, not 0"),
        ({"text": "cup", "max_instances": 2.0}, "max_instances must be an integer"),
        ({"text": "cup", "max_instances": True}, "max_instances must be an integer"),
    ],
)
def test_the_fault_of_an_invalid_prompt_is_named(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInputError, match=fault):
        ConceptPrompt.of(**parts)


def test_bounds_of_the_ranges_are_valid() -> None:
    assert ConceptPrompt.of("cup", threshold=0, nms_iou=1).threshold == 0
    assert ConceptPrompt.of("cup", threshold=1, boxes=[]).boxes is None


def test_a_list_of_texts_shares_the_other_options() -> None:
    first, second = ConceptPrompt.each(["cup", "plate"], boxes=[[1, 2, 3, 4]], threshold=0.25)
    assert (first.text, second.text) == ("cup", "plate")
    assert first.threshold == second.threshold == 0.25
    assert second.box_labels is not None
    assert second.box_labels.tolist() == [1]
    with pytest.raises(InvalidInputError, match="the list of texts is empty"):
        ConceptPrompt.each([])


def test_an_image_is_uploaded_only_if_the_server_does_not_have_it() -> None:
    def server(call: Call) -> Arrays | Exception:
        return answer(2, 2) if "IMAGE" in call.inputs else ImageNotCachedError("unknown")

    found, calls = carry_out(conversations.find(PHOTO, ConceptPrompt.of("cup")), server)
    assert [call.model for call in calls] == ["sam3_concept"] * 2
    assert ["IMAGE" in call.inputs for call in calls] == [False, True]
    assert (found.text, found.presence, found.truncated, found.total) == ("cup", 0.75, False, 2)
    assert (found.image_size, found.image_id, found.cache_hit, found.model) == ((6, 4), "ab", False, MODEL)
    assert found.masks.shape == (2, 4, 6)
    assert found.masks.all()


def test_all_instances_are_asked_for_again_if_there_are_more_than_thirty_two() -> None:
    def server(call: Call) -> Arrays:
        return answer(min(40, int(call.inputs["MAX_INSTANCES"][0])), 40, cache_hit=len(calls) > 0)

    calls: list[Call] = []
    found, calls = carry_out(conversations.find(CachedImage("ab"), ConceptPrompt.of("cup")), server)
    assert [call.inputs["MAX_INSTANCES"].tolist() for call in calls] == [[32], [40]]
    assert len(found.scores) == found.total == 40
    _, calls = carry_out(conversations.find(PHOTO, ConceptPrompt.of("cup", max_instances=5)), server)
    assert [call.inputs["MAX_INSTANCES"].tolist() for call in calls] == [[5]]


def test_no_instance_is_an_answer() -> None:
    found, _ = carry_out(conversations.find(PHOTO, ConceptPrompt.of("cup")), lambda _: answer(0, 0))
    assert found.mask_pngs == ()
    assert found.masks.shape == (0, 4, 6)
    assert found.masks.dtype == bool


def test_masks_that_were_not_asked_for_are_missed() -> None:
    prompt = ConceptPrompt.of("cup", masks=False)
    found, (call,) = carry_out(conversations.find(PHOTO, prompt), lambda _: answer(2, 2, masks=False))
    assert call.inputs["WITH_MASKS"].tolist() == [False]
    assert isinstance(found, Instances)
    with pytest.raises(InvalidInputError, match="masks were not requested"):
        _ = found.masks


def test_a_server_without_concepts_says_how_to_export_them() -> None:
    error = translated(InferenceServerException(NO_CONCEPTS, status="StatusCode.NOT_FOUND"), "triton:8011")
    assert isinstance(error, ConceptsNotServedError)
    assert "sam3-export --components clicks,concepts" in str(error)
    with pytest.raises(ConceptsNotServedError):
        carry_out(conversations.find(PHOTO, ConceptPrompt.of("cup")), lambda _: error)
    assert carry_out(conversations.serves_concepts(), lambda _: error)[0] is False
    assert carry_out(conversations.serves_concepts(), lambda _: {"TRUNCATED": np.array([False])})[0] is True


def test_other_missing_models_are_no_matter_of_concepts() -> None:
    message = "Request for unknown model: 'sam3' is not found"
    error = translated(InferenceServerException(message, status="StatusCode.NOT_FOUND"), "triton:8011")
    assert not isinstance(error, ConceptsNotServedError)


def test_cancelling_a_search_cancels_its_requests() -> None:
    async def scenario(triton: SilentTriton, address: str) -> None:
        async with AsyncSam3Client(address) as client:
            search = asyncio.create_task(client.find(PHOTO, text=["cup", "plate"]))
            await asyncio.to_thread(triton.wait_for, 1, 0)
            search.cancel()
            await asyncio.gather(search, return_exceptions=True)
            await asyncio.to_thread(triton.wait_for, 1, 1)

    with silent_triton() as (triton, address):
        asyncio.run(scenario(triton, address))


class OneFails:
    """A transport that refuses one text, answers another and is silent about the rest."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def infer(self, call: Call, timeout_s: float) -> Arrays:
        (text,) = call.inputs["TEXT"].tolist()
        if text == b"good":
            return answer(1, 1)
        if text == b"bad":
            await asyncio.sleep(0)  # the others are on their way
            raise InvalidInputError("a bad text")
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def close(self) -> None:
        pass


def test_a_text_that_fails_cancels_the_others() -> None:
    async def scenario() -> int:
        async with AsyncSam3Client("localhost:1") as client:
            client._transport = transport = OneFails()
            with pytest.raises(InvalidInputError, match="a bad text"):
                await client.find(PHOTO, text=["good", "silent", "bad", "silent"])
            await asyncio.sleep(0)
            return transport.cancelled

    assert asyncio.run(scenario()) == 2
