"""The asyncio client: send an image and a prompt, get masks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, overload

import numpy as np

from sam3_triton import conversations
from sam3_triton.async_transport import AsyncTransport, connect
from sam3_triton.client import DEFAULT_TIMEOUT_S, DEFAULT_URL, PROBE_TIMEOUT_S
from sam3_triton.concepts import DEFAULT_THRESHOLD, ConceptPrompt
from sam3_triton.conversations import Conversation, T
from sam3_triton.errors import ClosedClientError, InvalidInputError, Sam3Error, SupersededError
from sam3_triton.images import CachedImage, EncodedImage, ImageSource, one_of
from sam3_triton.instances import Instances
from sam3_triton.predictions import Prediction, Prefetch
from sam3_triton.prompts import Prompt
from sam3_triton.retries import DEFAULT_RETRIES, AsyncRetryingTransport
from sam3_triton.served_model import ServedModel
from sam3_triton.shared_memory import AsyncSharedMemoryTransport


class AsyncSam3Client:
    """`Sam3Client` for asyncio: the same methods, awaitable. Use each client in one event loop only.

    Cancelling a call cancels its request.
    """

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
            url: see `Sam3Client`. The constructor does not connect.
            timeout_s: limit for each method call, in seconds.
            shared_memory, retries: see `Sam3Client`.
        """
        self._closed = False
        self._timeout_s = timeout_s
        self._probing = transport = connect(url, timeout_s)
        self._transport: AsyncTransport = AsyncRetryingTransport(
            AsyncSharedMemoryTransport(transport) if shared_memory else transport, retries
        )

    async def __aenter__(self) -> AsyncSam3Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Later calls raise `ClosedClientError`."""
        self._closed = True
        await self._transport.close()

    async def model(self) -> ServedModel:
        """See `Sam3Client.model`."""
        return await _carry_out(conversations.model(), self._open(self._transport), self._timeout_s)

    async def probe(self) -> ServedModel:
        """See `Sam3Client.probe`."""
        timeout_s = min(self._timeout_s, PROBE_TIMEOUT_S)
        return await _carry_out(conversations.probe(), self._open(self._probing), timeout_s)

    async def is_ready(self) -> bool:
        """Returns whether `probe` succeeds."""
        try:
            await self.probe()
        except Sam3Error:
            return False
        return True

    async def set_image(self, image: ImageSource) -> str:
        """See `Sam3Client.set_image`."""
        encoded = await _encoded(image)
        await self.prefetch(encoded)
        return encoded.image_id

    async def prefetch(self, image: EncodedImage) -> Prefetch:
        """Like `set_image`, but returns whether the image was already cached, and the model."""
        return await _carry_out(conversations.set_image(image), self._open(self._transport), self._timeout_s)

    async def predict(
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
        """See `Sam3Client.predict`."""
        prompt = Prompt.of(points, labels, box, mask_input, multimask)
        return await self.segment(one_of(image, image_id), prompt, logits=logits)

    async def segment(self, image: ImageSource | CachedImage, prompt: Prompt, *, logits: bool = True) -> Prediction:
        """See `Sam3Client.segment`."""
        (prediction,) = await self.segment_objects(image, [prompt], logits=logits)
        return prediction

    async def predict_objects(
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
        """See `Sam3Client.predict_objects`."""
        prompts = Prompt.each(points, labels, boxes, mask_inputs, multimask)
        return await self.segment_objects(one_of(image, image_id), prompts, logits=logits)

    async def segment_objects(
        self, image: ImageSource | CachedImage, prompts: Sequence[Prompt], *, logits: bool = True
    ) -> list[Prediction]:
        """See `Sam3Client.segment_objects`."""
        known = image if isinstance(image, CachedImage) else await _encoded(image)
        conversation = conversations.segment(known, prompts, logits)
        return await _carry_out(conversation, self._open(self._transport), self._timeout_s)

    async def serves_concepts(self) -> bool:
        """See `Sam3Client.serves_concepts`."""
        return await _carry_out(conversations.serves_concepts(), self._open(self._transport), self._timeout_s)

    @overload
    async def find(
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
    async def find(
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

    async def find(
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
        """See `Sam3Client.find`."""
        prompts = ConceptPrompt.each(
            text if isinstance(text, (list, tuple)) else [text],
            boxes=boxes,
            box_labels=box_labels,
            threshold=threshold,
            max_instances=max_instances,
            nms_iou=nms_iou,
            masks=masks,
        )
        found = await self.find_concepts(one_of(image, image_id), prompts)
        return found if isinstance(text, (list, tuple)) else found[0]

    async def find_concepts(
        self, image: ImageSource | CachedImage, prompts: Sequence[ConceptPrompt]
    ) -> list[Instances]:
        """See `Sam3Client.find_concepts`."""
        if not prompts:
            raise InvalidInputError("no prompt: the list of concepts is empty")
        known = image if isinstance(image, CachedImage) else await _encoded(image)
        transport, deadline = self._open(self._transport), time.monotonic() + self._timeout_s

        async def ask(prompt: ConceptPrompt) -> Instances:
            return await _carry_out(conversations.find(known, prompt), transport, deadline - time.monotonic())

        first = await ask(prompts[0])  # alone, so that the others find the image in the server's cache
        others = [asyncio.ensure_future(ask(prompt)) for prompt in prompts[1:]]
        try:
            return [first, *await asyncio.gather(*others)]
        finally:
            for other in others:  # one has failed, or the caller has cancelled this call
                other.cancel()

    def latest_wins(self) -> LatestWins:
        """Returns a `LatestWins`. Create one for each user, if only the user's latest click matters."""
        return LatestWins(self)

    def _open(self, transport: AsyncTransport) -> AsyncTransport:
        if self._closed:
            raise ClosedClientError("this client was closed")
        return transport


class LatestWins:
    """Makes predictions for one user: a new call cancels the previous one and its request."""

    def __init__(self, client: AsyncSam3Client) -> None:
        self._client = client
        self._latest: asyncio.Task[Prediction] | None = None

    async def predict(
        self, image: ImageSource | None = None, *, image_id: str | None = None, logits: bool = True, **prompt: Any
    ) -> Prediction:
        """Takes the parameters of `Sam3Client.predict`.

        Raises:
            SupersededError: a later call was made before the answer arrived.
        """
        return await self.segment(one_of(image, image_id), Prompt.of(**prompt), logits=logits)

    async def segment(self, image: ImageSource | CachedImage, prompt: Prompt, *, logits: bool = True) -> Prediction:
        """See `Sam3Client.segment`.

        Raises:
            SupersededError: a later call was made before the answer arrived.
        """
        if self._latest is not None:
            self._latest.cancel()
        task = self._latest = asyncio.ensure_future(self._client.segment(image, prompt, logits=logits))
        try:
            return await task
        except asyncio.CancelledError:
            if self._latest is task:  # the caller itself was cancelled
                raise
            raise SupersededError("a later click replaced this one") from None


async def _encoded(image: ImageSource) -> EncodedImage:
    # Reading and hashing a large image takes tens of milliseconds.
    return image if isinstance(image, EncodedImage) else await asyncio.to_thread(EncodedImage.of, image)


async def _carry_out(conversation: Conversation[T], transport: AsyncTransport, timeout_s: float) -> T:
    deadline = time.monotonic() + timeout_s
    try:
        call = next(conversation)
        while True:
            try:
                answer = await transport.infer(call, max(0.0, deadline - time.monotonic()))
            except Sam3Error as error:
                call = conversation.throw(error)
            else:
                call = conversation.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
