from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cache_errors import ErrorKind
from concept_prompts import ConceptPrompt
from image_embedding import ImageEmbedding
from prompts import Prompt
from recording_channel import RecordingChannel
from reply import Reply

FEATURES = {
    "HIGH_RES_FEATURES_0": np.zeros((1, 2, 8, 6), np.float16),
    "IMAGE_EMBEDDING": np.zeros((1, 4, 2, 2), np.float16),
}
EMBEDDING = ImageEmbedding(FEATURES, np.array([30, 40], np.int32))
WITH_CONCEPTS = ImageEmbedding(
    {**FEATURES, "BACKBONE_FEATURES": np.zeros((1, 16, 2, 2), np.float16)}, EMBEDDING.original_size
)
PROMPT = Prompt(points=np.array([[[10, 15]]], np.float32))
MODEL = np.array([b"SAM 3.1", b"0123"], np.object_)
SMALL = {
    "POINT_COORDS", "POINT_LABELS", "MASK_INPUT", "HAS_MASK_INPUT", "MASK_TOKENS",
    "HAS_PROMPT", "ORIGINAL_SIZE", "IMAGE_ID", "CACHE_HIT", "MODEL",
}  # fmt: skip
CONCEPT = {
    "TEXT", "BOX_COORDS", "BOX_LABELS", "RANKS", "THRESHOLD", "MAX_INSTANCES", "NMS_IOU", "WITH_MASKS",
    "HAS_CONCEPT", "ORIGINAL_SIZE", "IMAGE_ID", "CACHE_HIT", "MODEL", "BACKBONE_FEATURES",
}  # fmt: skip


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def reply_to(
    channel: RecordingChannel,
    *wanted: str,
    timeout_us: int = 0,
    log: list[str] | None = None,
    clock: Any = Clock(),
    queries: int | None = None,
) -> Reply:
    return Reply(channel, wanted, MODEL, timeout_us, ([] if log is None else log).append, clock, queries)


def as_tensors(embedding: ImageEmbedding) -> dict[str, Any]:
    return {name: ("tensor", name) for name in embedding.features}


def no_tensors(embedding: ImageEmbedding) -> dict[str, Any]:
    raise AssertionError("no feature was asked for")


def test_the_size_and_weight_of_an_embedding_are_its_features() -> None:
    assert EMBEDDING.low_res_size == (8, 6)
    assert EMBEDDING.nbytes == 2 * (2 * 8 * 6 + 4 * 2 * 2)


def test_an_answer_holds_the_features_and_the_prompt_laid_out() -> None:
    channel = RecordingChannel()
    reply = reply_to(channel, *SMALL, *EMBEDDING.features)
    reply.key, reply.prompt = "an id", PROMPT
    reply.embedding(EMBEDDING, as_tensors, hit=True)
    (answer,) = channel.answers
    assert answer.keys() == {*SMALL, *EMBEDDING.features}
    assert answer["IMAGE_EMBEDDING"] == ("tensor", "IMAGE_EMBEDDING")
    assert answer["POINT_COORDS"][0, 0, 0].tolist() == [0.25, 0.5]
    assert answer["MASK_INPUT"].shape == (1, 1, 8, 6)
    assert answer["ORIGINAL_SIZE"].tolist() == [30, 40]
    assert answer["IMAGE_ID"].tolist() == [b"an id"]
    assert answer["CACHE_HIT"].tolist() == [True]
    assert answer["HAS_PROMPT"].tolist() == [True]
    assert answer["MODEL"].tolist() == [b"SAM 3.1", b"0123"]


def test_the_model_alone_needs_no_embedding() -> None:
    channel, other = RecordingChannel(), RecordingChannel(RuntimeError("no shared memory left"))
    reply = reply_to(channel, "MODEL")
    assert reply.wants_model_only
    assert not reply_to(other, "MODEL", "CACHE_HIT").wants_model_only
    assert not reply_to(other).wants_model_only
    reply.model()
    assert [answer["MODEL"].tolist() for answer in channel.answers] == [[b"SAM 3.1", b"0123"]]
    log: list[str] = []
    reply_to(other, "MODEL", log=log).model()
    assert other.errors == [("the model's name cannot be sent: no shared memory left", ErrorKind.INTERNAL)]
    assert len(log) == 1


def test_outputs_that_were_not_requested_are_neither_made_nor_sent() -> None:
    channel, other = RecordingChannel(), RecordingChannel()
    reply_to(channel, "CACHE_HIT", "HAS_PROMPT").embedding(EMBEDDING, no_tensors, hit=False)
    reply_to(other, "IMAGE_EMBEDDING").embedding(EMBEDDING, as_tensors, hit=False)
    assert channel.answers == [{"CACHE_HIT": np.array([False]), "HAS_PROMPT": np.array([False])}]
    assert other.answers == [{"IMAGE_EMBEDDING": ("tensor", "IMAGE_EMBEDDING")}]


def test_a_prompt_that_does_not_fit_is_the_callers_fault() -> None:
    channel, log = RecordingChannel(), []
    reply = reply_to(channel, "POINT_COORDS", log=log)
    reply.prompt = Prompt(points=np.array([[[99, 1]]], np.float32))
    reply.embedding(EMBEDDING, as_tensors, hit=True)
    assert channel.errors == [("POINTS[0, 0] is (99, 1), outside the image of 40 x 30 pixels", ErrorKind.INVALID_ARG)]
    assert not channel.answers
    assert not log


def test_an_answer_for_a_concept_holds_only_what_it_needs() -> None:
    channel = RecordingChannel()
    reply = reply_to(channel, *CONCEPT, queries=20)
    assert reply.wants_concept
    # A click's prompt, which must not be looked at.
    reply.key, reply.prompt = "an id", Prompt(points=np.array([[[99, 1]]], np.float32))
    reply.concept = ConceptPrompt(boxes=np.array([[0, 0, 20, 15]], np.float32))
    reply.embedding(WITH_CONCEPTS, as_tensors, hit=True)
    (answer,) = channel.answers
    assert answer.keys() == CONCEPT
    assert answer["BACKBONE_FEATURES"] == ("tensor", "BACKBONE_FEATURES")
    assert answer["BOX_COORDS"][0, 0].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert answer["RANKS"].shape == (1, 20)
    assert answer["HAS_CONCEPT"].tolist() == [True]


def test_an_answer_for_a_click_has_nothing_of_a_concept() -> None:
    channel = RecordingChannel()
    reply = reply_to(channel, *SMALL, *FEATURES, queries=20)
    assert not reply.wants_concept
    reply.prompt, reply.concept = PROMPT, ConceptPrompt(threshold=7)  # must not be looked at
    reply.embedding(WITH_CONCEPTS, as_tensors, hit=True)
    (answer,) = channel.answers
    assert answer.keys() == {*SMALL, *FEATURES}


def test_a_concept_that_does_not_fit_is_the_callers_fault() -> None:
    channel, log = RecordingChannel(), []
    reply = reply_to(channel, *CONCEPT, log=log, queries=20)
    reply.concept = ConceptPrompt(threshold=7)
    reply.embedding(WITH_CONCEPTS, as_tensors, hit=True)
    assert channel.errors == [("THRESHOLD is 7, not from 0 to 1", ErrorKind.INVALID_ARG)]
    assert not log


@pytest.mark.parametrize("wanted", ["RANKS", "BACKBONE_FEATURES", "HAS_CONCEPT"])
def test_an_export_without_concepts_refuses_them(wanted: str) -> None:
    channel = RecordingChannel()
    reply_to(channel, wanted).embedding(EMBEDDING, as_tensors, hit=True)
    assert channel.errors == [("the model was exported without concept prompts", ErrorKind.INVALID_ARG)]


def test_an_answer_that_cannot_be_sent_becomes_an_error() -> None:
    channel, log = RecordingChannel(RuntimeError("no shared memory left")), []
    reply_to(channel, "CACHE_HIT", log=log).embedding(EMBEDDING, as_tensors, hit=True)
    assert channel.errors == [("the features cannot be sent: no shared memory left", ErrorKind.INTERNAL)]
    assert len(log) == 1
    assert log[0].startswith("Traceback")


def test_features_that_cannot_be_made_into_tensors_become_an_error() -> None:
    def fail(embedding: ImageEmbedding) -> dict[str, Any]:
        raise MemoryError("shm")

    channel = RecordingChannel()
    reply_to(channel, "IMAGE_EMBEDDING").embedding(EMBEDDING, fail, hit=True)
    assert channel.errors == [("the features cannot be sent: shm", ErrorKind.INTERNAL)]


def test_a_caller_who_cannot_be_reached_at_all_raises_nothing() -> None:
    channel, log = RecordingChannel(RuntimeError("first"), RuntimeError("second")), []
    reply_to(channel, "CACHE_HIT", log=log).embedding(EMBEDDING, as_tensors, hit=True)
    assert not channel.messages
    assert ["first" in log[0], "second" in log[1]] == [True, True]


def test_only_the_first_answer_is_sent() -> None:
    channel, log = RecordingChannel(), []
    reply = reply_to(channel, "CACHE_HIT", log=log)
    reply.error("too late", ErrorKind.UNAVAILABLE)
    reply.embedding(EMBEDDING, as_tensors, hit=True)
    reply.error("again", ErrorKind.INTERNAL)
    assert channel.errors == [("too late", ErrorKind.UNAVAILABLE)]
    assert channel.messages == 1
    assert not log


def test_after_an_answer_the_channel_is_not_asked_about_cancellation() -> None:
    channel = RecordingChannel()
    reply = reply_to(channel, "CACHE_HIT")
    assert not reply.is_cancelled()
    channel.cancelled = True
    assert reply.is_cancelled()
    reply.embedding(EMBEDDING, as_tensors, hit=True)
    assert not reply.is_cancelled()  # the channel would raise


@pytest.mark.parametrize(
    ("timeout_us", "waited_s", "late"), [(2_500_000, 2.4, False), (2_500_000, 2.6, True), (0, 1e9, False)]
)
def test_a_request_is_late_after_its_timeout(timeout_us: int, waited_s: float, late: bool) -> None:
    clock = Clock()
    reply = reply_to(RecordingChannel(), timeout_us=timeout_us, clock=clock)
    clock.now += waited_s
    assert reply.is_late() == late
