"""The synchronous client: send an image and a prompt, get masks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, overload

import numpy as np

from sam3_triton import conversations
from sam3_triton.concepts import DEFAULT_THRESHOLD, ConceptPrompt
from sam3_triton.conversations import Conversation, T
from sam3_triton.errors import ClosedClientError, InvalidInputError, Sam3Error
from sam3_triton.images import CachedImage, EncodedImage, ImageSource, one_of
from sam3_triton.instances import Instances
from sam3_triton.predictions import Prediction
from sam3_triton.prompts import Prompt
from sam3_triton.retries import DEFAULT_RETRIES, RetryingTransport
from sam3_triton.served_model import ServedModel
from sam3_triton.shared_memory import SharedMemoryTransport
from sam3_triton.transport import Transport, connect

DEFAULT_URL = "localhost:8011"
# With full-size SAM 3 and no GPU, the first click on an image takes up to a minute.
DEFAULT_TIMEOUT_S = 120.0
# A warm click takes well under a second. A server that needs longer than this is not usable.
PROBE_TIMEOUT_S = 5.0
# Concepts of one call that are in flight together.
_CONCEPTS_AT_ONCE = 16


class Sam3Client:
    """Client for the ensembles `sam3` and `sam3_concept`. Threads can share one. For asyncio, use `AsyncSam3Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        shared_memory: bool = False,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        """
        Args:
            url: `host:port` or `grpc://host:port` for gRPC, `http://host:port` for HTTP, `grpcs://` and `https://` for
                TLS. The constructor does not connect.
            timeout_s: limit for each method call, in seconds. It includes uploading the image if the server does not
                have it; over HTTP, that upload may take up to `timeout_s` again.
            shared_memory: send images of 256 KB or more through /dev/shm, which the server must share. It does not work
                through a proxy in front of several servers.
            retries: how often a request is sent again, within `timeout_s`, if there was no server for it
                (`NoServerError`). Other errors are not retried, and `probe` does not retry.
        """
        self._closed = False
        self._timeout_s = timeout_s
        self._probe_timeout_s = min(timeout_s, PROBE_TIMEOUT_S)
        transport = connect(url, timeout_s)
        self._transport: Transport = RetryingTransport(
            SharedMemoryTransport(transport) if shared_memory else transport, retries
        )
        self._probing = connect(url, self._probe_timeout_s)

    def __enter__(self) -> Sam3Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Later calls raise `ClosedClientError`."""
        self._closed = True
        self._transport.close()
        self._probing.close()

    def model(self) -> ServedModel:
        """Returns the model that the server runs. Sends no image and runs no network.

        Raises:
            ServerUnavailableError, DeadlineExceededError, PredictionError: the server did not answer, or it failed.
        """
        return _carry_out(conversations.model(), self._open(self._transport), self._timeout_s)

    def probe(self) -> ServedModel:
        """Sends a click on a small picture, to check every model that clicks need. The encoder runs only the first
        time. Returns the model that answered.

        This requests a mask because Triton still reports that it is ready when a Python model's process has died.

        Raises:
            Sam3Error: no mask came back within `PROBE_TIMEOUT_S`; the message says why.
        """
        return _carry_out(conversations.probe(), self._open(self._probing), self._probe_timeout_s)

    def is_ready(self) -> bool:
        """Returns whether `probe` succeeds."""
        try:
            self.probe()
        except Sam3Error:
            return False
        return True

    def set_image(self, image: ImageSource) -> str:
        """Has the server encode and cache the image, unless it is cached already. Returns the image's id.

        Raises:
            Sam3Error: see `predict`.
        """
        encoded = EncodedImage.of(image)
        _carry_out(conversations.set_image(encoded), self._open(self._transport), self._timeout_s)
        return encoded.image_id

    def predict(
        self,
        image: ImageSource | None = None,
        *,
        image_id: str | None = None,
        points: Sequence[Sequence[float]] | np.ndarray | None = None,
        labels: Sequence[int | bool] | np.ndarray | None = None,
        box: Sequence[float] | np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask: bool = False,
        logits: bool = True,
    ) -> Prediction:
        """Segments the object that the prompt points at.

        The client first sends only the image's id, and the image only if the server does not have it.

        Args:
            image: path, bytes of an image file, PIL image, or pixels uint8 [H, W, 3] or [H, W].
            image_id: id from `set_image` or from an earlier answer, instead of the image.
            points: [N, 2], (x, y) in pixels of the original image, origin top left.
            labels: [N], 1 or True foreground, 0 or False background. Default: all foreground.
            box: x1, y1, x2, y2 in pixels. It may overhang the image.
            mask_input: one row of an earlier answer's `low_res_logits`, [1, h, w] or [h, w]. With points or a box, it
                refines that mask; it also is a prompt by itself.
            multimask: True returns three candidates instead of one mask.
            logits: False leaves out `low_res_logits`: 332 KB for each mask at SAM 3's own size.

        Raises:
            InvalidInputError: the image or the prompt is invalid.
            ImageNotCachedError: `image_id` was given, and the server does not know it.
            ServerUnavailableError, DeadlineExceededError, PredictionError: the server did not answer, or it failed.
        """
        prompt = Prompt.of(points, labels, box, mask_input, multimask)
        return self.segment(one_of(image, image_id), prompt, logits=logits)

    def segment(self, image: ImageSource | CachedImage, prompt: Prompt, *, logits: bool = True) -> Prediction:
        """Like `predict`, but takes a `Prompt`, which is already validated.

        Raises:
            Sam3Error: see `predict`.
        """
        (prediction,) = self.segment_objects(image, [prompt], logits=logits)
        return prediction

    def predict_objects(
        self,
        image: ImageSource | None = None,
        *,
        image_id: str | None = None,
        points: Sequence[Any] | np.ndarray | None = None,
        labels: Sequence[Any] | np.ndarray | None = None,
        boxes: Sequence[Any] | np.ndarray | None = None,
        mask_inputs: Sequence[np.ndarray] | np.ndarray | None = None,
        multimask: bool = False,
        logits: bool = True,
    ) -> list[Prediction]:
        """Segments several objects in one request: a prediction for each, as `predict` returns it.

        Args:
            points, labels, boxes, mask_inputs: lists with an entry for each object, which is as in `predict`. Objects
                may differ in their number of points.
            image, image_id, multimask, logits: see `predict`.

        Raises:
            Sam3Error: see `predict`.
        """
        prompts = Prompt.each(points, labels, boxes, mask_inputs, multimask)
        return self.segment_objects(one_of(image, image_id), prompts, logits=logits)

    def segment_objects(
        self, image: ImageSource | CachedImage, prompts: Sequence[Prompt], *, logits: bool = True
    ) -> list[Prediction]:
        """Like `predict_objects`, but takes a `Prompt` for each object. All have a box or none has; so for masks.

        Raises:
            Sam3Error: see `predict`.
        """
        known = image if isinstance(image, CachedImage) else EncodedImage.of(image)
        conversation = conversations.segment(known, prompts, logits)
        return _carry_out(conversation, self._open(self._transport), self._timeout_s)

    def serves_concepts(self) -> bool:
        """Returns whether the server has concept prompts, which depends on what was exported. Sends no image.

        Raises:
            ServerUnavailableError, DeadlineExceededError, PredictionError: the server did not answer, or it failed.
        """
        return _carry_out(conversations.serves_concepts(), self._open(self._transport), self._timeout_s)

    @overload
    def find(
        self,
        image: ImageSource | None = None,
        *,
        image_id: str | None = None,
        text: str | None = None,
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        box_labels: Sequence[int | bool] | np.ndarray | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        max_instances: int | None = None,
        nms_iou: float | None = None,
        masks: bool = True,
    ) -> Instances: ...

    @overload
    def find(
        self,
        image: ImageSource | None = None,
        *,
        image_id: str | None = None,
        text: list[str] | tuple[str, ...],
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        box_labels: Sequence[int | bool] | np.ndarray | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        max_instances: int | None = None,
        nms_iou: float | None = None,
        masks: bool = True,
    ) -> list[Instances]: ...

    def find(
        self,
        image: ImageSource | None = None,
        *,
        image_id: str | None = None,
        text: str | list[str] | tuple[str, ...] | None = None,
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        box_labels: Sequence[int | bool] | np.ndarray | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        max_instances: int | None = None,
        nms_iou: float | None = None,
        masks: bool = True,
    ) -> Instances | list[Instances]:
        """Finds every instance of a concept, given by words, by example boxes, or by both.

        Args:
            image, image_id: see `predict`.
            text: a noun phrase; or a list of them, for which the image is uploaded once at most. The server cuts a text
                at 32 tokens.
            boxes: [N, 4], x0, y0, x1, y1 of examples, in pixels. They apply to each text.
            box_labels: [N], 1 or True "more like this", 0 or False "not this". Default: all 1.
            threshold: return instances whose score is above it, 0..1.
            max_instances: return at most this many, best first. Default: all.
            nms_iou: drop an instance if the IoU of its mask with a better one's is above this, 0..1. Default: keep all.
            masks: False leaves out the masks, and saves drawing them.

        Returns: the instances, or a list with those of each text if `text` is a list. Finding none is no error.

        Raises:
            ConceptsNotServedError: the server's model was exported without concept prompts.
            Sam3Error: see `predict`.
        """
        prompts = ConceptPrompt.each(
            text if isinstance(text, (list, tuple)) else [text],
            boxes=boxes,
            box_labels=box_labels,
            threshold=threshold,
            max_instances=max_instances,
            nms_iou=nms_iou,
            masks=masks,
        )
        found = self.find_concepts(one_of(image, image_id), prompts)
        return found if isinstance(text, (list, tuple)) else found[0]

    def find_concepts(self, image: ImageSource | CachedImage, prompts: Sequence[ConceptPrompt]) -> list[Instances]:
        """Like `find`, but takes prompts, which are already validated. Returns the instances of each.

        Raises:
            Sam3Error: see `find`.
        """
        if not prompts:
            raise InvalidInputError("no prompt: the list of concepts is empty")
        known = image if isinstance(image, CachedImage) else EncodedImage.of(image)
        transport, deadline = self._open(self._transport), time.monotonic() + self._timeout_s

        def ask(prompt: ConceptPrompt) -> Instances:
            return _carry_out(conversations.find(known, prompt), transport, deadline - time.monotonic())

        first = ask(prompts[0])  # alone, so that the others find the image in the server's cache
        if len(prompts) == 1:
            return [first]
        with ThreadPoolExecutor(_CONCEPTS_AT_ONCE) as threads:
            return [first, *threads.map(ask, prompts[1:])]

    def _open(self, transport: Transport) -> Transport:
        if self._closed:
            raise ClosedClientError("this client was closed")
        return transport


def _carry_out(conversation: Conversation[T], transport: Transport, timeout_s: float) -> T:
    deadline = time.monotonic() + timeout_s
    try:
        call = next(conversation)
        while True:
            try:
                answer = transport.infer(call, max(0.0, deadline - time.monotonic()))
            except Sam3Error as error:
                call = conversation.throw(error)
            else:
                call = conversation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
