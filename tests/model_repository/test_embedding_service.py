from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cache_errors import EncodeError, ErrorKind
from concept_prompts import ConceptPrompt
from embedding_cache import EmbeddingCache, Limits
from embedding_service import EmbeddingService, Question
from image_embedding import ImageEmbedding
from prompts import Prompt
from recording_channel import RecordingChannel
from reply import Reply

PATIENCE_S = 30
FEATURE = "HIGH_RES_FEATURES_0"
MODEL = np.array([b"SAM 3.1", b"0123"], np.object_)
TIMEOUT_US = 5_000_000


def id_of(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Turns(Executor):
    """Runs what was submitted when told to."""

    def __init__(self) -> None:
        self.submitted: list[Callable[[], None]] = []
        self.fails = False

    def submit(self, call: Callable, /, *args: Any, **kwargs: Any) -> Future:
        if self.fails:
            raise RuntimeError("can't start new thread")
        self.submitted.append(call)
        return Future()

    def run(self) -> None:
        """Runs everything that was submitted, in order."""
        while self.submitted:
            self.submitted.pop(0)()


class Encoder:
    """Makes an embedding whose feature holds the first byte of the image; fails if the image says so."""

    def __init__(self) -> None:
        self.images: list[bytes] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """Called during each encode."""

    def __call__(self, image: bytes) -> ImageEmbedding:
        self.meanwhile()
        self.images.append(image)
        if image.startswith(b"fails: "):
            raise EncodeError(image[7:].decode())
        return ImageEmbedding({FEATURE: np.full((1, 1, 4, 4), image[0], np.float16)}, np.array([30, 40], np.int32))


class Desk:
    """A service with everything that it is given."""

    def __init__(self, executor: Executor | None = None, inflight: int = 4, ttl: float = 0) -> None:
        self.clock = Clock()
        self.encoder = Encoder()
        self.turns = Turns()
        self.log: list[str] = []
        self.hit_threads: list[int] = []
        self.cache: EmbeddingCache[ImageEmbedding, Reply] = EmbeddingCache(Limits(10**6, inflight, 2, ttl), self.clock)
        self.service = EmbeddingService(
            self.cache, self.encoder, executor or self.turns, self._hit_tensors, self._miss_tensors, self.log.append
        )

    def ask(
        self,
        image: bytes | None = None,
        claimed_id: bytes | None = None,
        prompt: Prompt | None = None,
        wanted: tuple[str, ...] = (FEATURE, "CACHE_HIT", "IMAGE_ID"),
        timeout_us: int = 0,
        channel: RecordingChannel | None = None,
    ) -> RecordingChannel:
        """Passes a request to the service, and returns the channel that receives the answer."""
        channel = channel or RecordingChannel()
        reply = Reply(channel, wanted, MODEL, timeout_us, self.log.append, self.clock)
        self.service.answer(reply, lambda: Question(image, claimed_id, prompt or Prompt(), ConceptPrompt()))
        return channel

    def _hit_tensors(self, embedding: ImageEmbedding) -> dict[str, Any]:
        self.hit_threads.append(threading.get_ident())
        return {FEATURE: ("hit", int(embedding.features[FEATURE].flat[0]))}

    def _miss_tensors(self, embedding: ImageEmbedding) -> dict[str, Any]:
        return {FEATURE: ("miss", int(embedding.features[FEATURE].flat[0]))}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_miss_is_answered_after_its_encode_and_a_hit_at_once(desk: Desk) -> None:
    miss = desk.ask(b"image")
    assert not miss.messages
    desk.turns.run()
    assert miss.answers == [{FEATURE: ("miss", ord("i")), "CACHE_HIT": [False], "IMAGE_ID": [id_of(b"image").encode()]}]
    by_image, by_id = desk.ask(b"image"), desk.ask(claimed_id=id_of(b"image").encode())
    by_both = desk.ask(b"image", id_of(b"image").encode())
    for hit in (by_image, by_id, by_both):
        assert hit.answers == [{**miss.answers[0], FEATURE: ("hit", ord("i")), "CACHE_HIT": [True]}]
    assert not desk.turns.submitted
    assert desk.encoder.images == [b"image"]


def test_misses_of_one_image_share_its_encode(desk: Desk) -> None:
    channels = [desk.ask(b"image"), desk.ask(b"image"), desk.ask(claimed_id=id_of(b"image").encode())]
    other = desk.ask(b"other")
    assert len(desk.turns.submitted) == 2
    desk.turns.run()
    assert [channel.answers[0][FEATURE] for channel in channels] == [("miss", ord("i"))] * 3
    assert other.answers[0][FEATURE] == ("miss", ord("o"))
    assert desk.encoder.images == [b"image", b"other"]


@pytest.mark.parametrize(
    ("image", "claimed_id", "message", "kind"),
    [
        (None, None, "neither IMAGE nor CACHED_IMAGE_ID was given", ErrorKind.INVALID_ARG),
        (None, b"abc", "no image with the id 'abc' is cached; send IMAGE", ErrorKind.NOT_FOUND),
        (None, b"", "no image with the id '' is cached; send IMAGE", ErrorKind.NOT_FOUND),
        (None, b"\xff", "no image with the id '\ufffd' is cached; send IMAGE", ErrorKind.NOT_FOUND),
        (
            b"image",
            b"abc",
            f"CACHED_IMAGE_ID is 'abc', but the sha256 of IMAGE is {id_of(b'image')}",
            ErrorKind.INVALID_ARG,
        ),
        (
            b"image",
            b"",
            f"CACHED_IMAGE_ID is '', but the sha256 of IMAGE is {id_of(b'image')}",
            ErrorKind.INVALID_ARG,
        ),
        (b"new", None, "2 images are being encoded or wait for it; try again later", ErrorKind.UNAVAILABLE),
    ],
)
def test_refusals_are_answered_at_once(
    image: bytes | None, claimed_id: bytes | None, message: str, kind: ErrorKind
) -> None:
    desk = Desk(inflight=2)
    others = [desk.ask(b"first"), desk.ask(b"second")]
    refused = desk.ask(image, claimed_id)
    assert refused.errors == [(message, kind)]
    desk.turns.run()
    assert [channel.messages for channel in (refused, *others)] == [1, 1, 1]
    assert not desk.log


def test_a_request_that_cannot_be_read_is_answered_and_logged(desk: Desk) -> None:
    channel = RecordingChannel()

    def read() -> Question:
        raise ValueError("not a tensor")

    desk.service.answer(Reply(channel, ["CACHE_HIT"], MODEL, 0, desk.log.append), read)
    assert channel.errors == [("sam3_embedding_cache failed; the server's log says why", ErrorKind.INTERNAL)]
    assert ["not a tensor" in text for text in desk.log] == [True]


def test_a_miss_that_cannot_be_handed_to_a_thread_is_answered_and_frees_its_place() -> None:
    desk = Desk(inflight=1)
    desk.turns.fails = True
    channel = desk.ask(b"image")
    assert channel.errors == [("sam3_embedding_cache failed; the server's log says why", ErrorKind.INTERNAL)]
    assert "can't start new thread" in desk.log[0]
    desk.turns.fails = False
    other = desk.ask(b"other")
    desk.turns.run()
    assert len(other.answers) == 1
    assert channel.messages == 1
    assert desk.encoder.images == [b"other"]


@pytest.mark.parametrize(
    ("text", "message", "kind"),
    [
        ("in ensemble 'sam3_encode', invalid image: empty", "invalid image: empty", ErrorKind.INVALID_ARG),
        ("Server not ready", "Server not ready", ErrorKind.UNAVAILABLE),
        ("no memory", "no memory", ErrorKind.INTERNAL),
    ],
)
def test_a_failed_encode_reaches_all_waiters_and_is_not_kept(
    desk: Desk, text: str, message: str, kind: ErrorKind
) -> None:
    image = b"fails: " + text.encode()
    for attempt in range(1, 3):
        channels = [desk.ask(image), desk.ask(image)]
        desk.turns.run()
        assert [channel.errors for channel in channels] == [[(message, kind)]] * 2
        assert len(desk.encoder.images) == desk.cache.stats.failures == attempt


def test_a_caller_who_cannot_be_reached_keeps_nobody_waiting(desk: Desk) -> None:
    gone = RecordingChannel(RuntimeError("gone"), RuntimeError("still gone"))
    for image in (b"image", b"fails: at once"):
        desk.ask(image, channel=gone)
        next_one = desk.ask(image)
        desk.turns.run()
        assert next_one.messages == 1
    assert not gone.answers


def test_an_answer_that_cannot_be_sent_becomes_an_error(desk: Desk) -> None:
    for hit in (False, True):
        channel = desk.ask(b"image", channel=RecordingChannel(RuntimeError("no shared memory")))
        assert bool(channel.messages) == hit
        desk.turns.run()
        assert channel.errors == [("the features cannot be sent: no shared memory", ErrorKind.INTERNAL)]
        assert not channel.answers


def test_a_prompt_that_does_not_fit_the_image_concerns_its_caller_alone(desk: Desk) -> None:
    wrong, right = (
        desk.ask(b"image", prompt=Prompt(points=np.array([[[x, 1]]], np.float32)), wanted=("POINT_COORDS",))
        for x in (99, 9)
    )
    desk.turns.run()
    assert [kind for _, kind in wrong.errors] == [ErrorKind.INVALID_ARG]
    assert len(right.answers) == 1


def test_the_sweep_answers_late_and_cancelled_requests_and_others_keep_waiting(desk: Desk) -> None:
    late = desk.ask(b"image", timeout_us=TIMEOUT_US)
    gone, patient = desk.ask(b"image"), desk.ask(b"image", timeout_us=3 * TIMEOUT_US)
    desk.service.sweep()
    assert [channel.messages for channel in (late, gone, patient)] == [0, 0, 0]
    gone.cancelled = True
    desk.clock.now += 6
    desk.service.sweep()
    desk.service.sweep()  # who was answered is not asked again
    assert late.errors == [("the request's timeout passed before its image was encoded", ErrorKind.UNAVAILABLE)]
    assert gone.errors == [("the request was cancelled before its image was encoded", ErrorKind.CANCELLED)]
    desk.turns.run()
    assert [channel.messages for channel in (late, gone, patient)] == [1, 1, 1]
    assert len(patient.answers) == 1


def test_an_image_without_waiters_is_not_encoded(desk: Desk) -> None:
    desk.ask(b"image", timeout_us=TIMEOUT_US)
    other = desk.ask(b"other")
    desk.clock.now += 6
    desk.service.sweep()
    desk.turns.run()  # one thing more was submitted than there is to encode
    assert desk.encoder.images == [b"other"]
    assert len(other.answers) == 1
    assert desk.cache.stats.abandoned == 1


def test_a_request_that_leaves_during_the_encode_is_answered_once(desk: Desk) -> None:
    late = desk.ask(b"image", timeout_us=TIMEOUT_US)

    def give_up() -> None:
        desk.clock.now += 6
        desk.service.sweep()

    desk.encoder.meanwhile = give_up
    desk.turns.run()
    assert [kind for _, kind in late.errors] == [ErrorKind.UNAVAILABLE]
    assert late.messages == 1
    assert len(desk.ask(b"image").answers) == 1  # its result was kept


def test_a_sweep_drops_expired_embeddings() -> None:
    desk = Desk(ttl=60)
    desk.ask(b"image")
    desk.turns.run()
    desk.clock.now += 61
    desk.service.sweep()
    assert (desk.cache.stats.entries, desk.cache.stats.expirations) == (0, 1)


def test_hits_are_sent_only_by_the_calling_thread() -> None:
    desk = Desk(ThreadPoolExecutor(2), inflight=8)
    for _ in range(20):
        for image in (b"first", b"second", b"third"):
            desk.ask(image)
    desk.service.close()
    desk.ask(b"first")
    assert set(desk.hit_threads) == {threading.get_ident()}


def test_closing_waits_until_everybody_is_answered() -> None:
    desk = Desk(ThreadPoolExecutor(1))
    go_on = threading.Event()
    desk.encoder.meanwhile = lambda: go_on.wait(PATIENCE_S)
    channels = [desk.ask(image) for image in (b"first", b"second", b"third")]
    closing = threading.Thread(target=desk.service.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    closing.join(PATIENCE_S)
    assert [len(channel.answers) for channel in channels] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_everyone_is_answered_exactly_once_whatever_happens(seed: int) -> None:
    choose = random.Random(seed)
    desk = Desk(ThreadPoolExecutor(3), inflight=6)
    desk.encoder.meanwhile = lambda: time.sleep(0.001)
    images = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"fails: once", b"fails: Server not ready"]
    channels: list[RecordingChannel] = []
    done = threading.Event()

    def sweep() -> None:
        while not done.wait(0.0002):
            desk.service.sweep()

    with ThreadPoolExecutor(1) as pool:
        sweeps = pool.submit(sweep)
        try:
            for step in range(400):
                image = choose.choice(images) + bytes([step // 50])
                channel = RecordingChannel(choose.choice([None, None, None, RuntimeError("on purpose")]))
                channel.cancelled = choose.random() < 0.2
                channels.append(channel)
                if choose.random() < 0.2:
                    desk.ask(claimed_id=id_of(image).encode(), channel=channel)
                else:
                    desk.ask(image, timeout_us=choose.choice([0, 1, TIMEOUT_US]), channel=channel)
                desk.clock.now += choose.choice([0.0, 0.1])
                time.sleep(choose.choice([0, 0, 0.001]))
            desk.service.close()
        finally:
            done.set()
        sweeps.result()
    assert [channel.messages for channel in channels] == [1] * 400
    assert desk.cache.stats.inflight == 0
    kinds = {kind for channel in channels for _, kind in channel.errors}
    assert kinds >= {ErrorKind.NOT_FOUND, ErrorKind.UNAVAILABLE, ErrorKind.CANCELLED, ErrorKind.INTERNAL}
    assert sum(len(channel.answers) for channel in channels) > 50
