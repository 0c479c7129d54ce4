"""The client for threads: an image and a prompt in, masks out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from sam3_triton import conversations
from sam3_triton.conversations import Conversation, T
from sam3_triton.errors import ClosedClientError, Sam3Error
from sam3_triton.images import CachedImage, EncodedImage, ImageSource, one_of
from sam3_triton.predictions import Prediction
from sam3_triton.prompts import Prompt
from sam3_triton.shared_memory import SharedMemoryTransport
from sam3_triton.transport import Transport, connect

DEFAULT_URL = "localhost:8011"
# The first click on an image at full size takes up to a minute where there is no GPU.
DEFAULT_TIMEOUT_S = 120.0
# A warm click takes well under a second; a server that needs longer than this is of no use now.
PROBE_TIMEOUT_S = 5.0


class Sam3Client:
    """Talks to the ensemble `sam3`. Threads may share one client; for asyncio there is `AsyncSam3Client`."""

    def __init__(
        self, url: str = DEFAULT_URL, timeout_s: float = DEFAULT_TIMEOUT_S, *, shared_memory: bool = False
    ) -> None:
        """
        Args:
            url: `host:port` or `grpc://host:port` for gRPC, `http://host:port` for HTTP, `grpcs://` and `https://` for
                TLS; nothing is sent yet.
            timeout_s: seconds that one method may take, the image's second way included. Over HTTP that second way
                may take as long again.
            shared_memory: images go through /dev/shm, which the server must share; faster from some hundred KB on.
        """
        self._closed = False
        self._timeout_s = timeout_s
        self._probe_timeout_s = min(timeout_s, PROBE_TIMEOUT_S)
        transport = connect(url, timeout_s)
        self._transport: Transport = SharedMemoryTransport(transport) if shared_memory else transport
        self._probing = connect(url, self._probe_timeout_s)

    def __enter__(self) -> Sam3Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; nothing can be asked afterwards."""
        self._closed = True
        self._transport.close()
        self._probing.close()

    def probe(self) -> None:
        """Clicks on a small picture, which goes through every model; the encoder runs the first time only.

        Triton's own readiness says yes even where the process of a Python model has died, so this asks for a mask.

        Raises:
            Sam3Error: no mask came within `PROBE_TIMEOUT_S`, and why.
        """
        _carry_out(conversations.probe(), self._open(self._probing), self._probe_timeout_s)

    def is_ready(self) -> bool:
        """Whether there is a server that answers a `probe`."""
        try:
            self.probe()
        except Sam3Error:
            return False
        return True

    def set_image(self, image: ImageSource) -> str:
        """Has the image encoded and cached, if it is not yet, and returns its id.

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
        labels: Sequence[int] | np.ndarray | None = None,
        box: Sequence[float] | np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask: bool = False,
        logits: bool = True,
    ) -> Prediction:
        """Segments what the prompt points at.

        The image's id is sent first, and the image only where the server lacks it.

        Args:
            image: path, bytes of an image file, PIL image, or pixels uint8 [H, W, 3] or [H, W].
            image_id: instead of the image: what `set_image` or an earlier answer gave.
            points: [N, 2], (x, y) in pixels of the original image, origin top left.
            labels: [N], 1 foreground, 0 background; left out: all foreground.
            box: x1, y1, x2, y2 in pixels.
            mask_input: one row of an earlier answer's `low_res_logits`, [1, h, w] or [h, w].
            multimask: three candidates instead of one mask.
            logits: False leaves `low_res_logits` out of the answer, 332 KB a mask at SAM 3's own size.

        Raises:
            InvalidInputError: the image or the prompt makes no sense.
            ImageNotCachedError: `image_id` alone was given, and the server does not know it.
            ServerUnavailableError, DeadlineExceededError, PredictionError: the server's side.
        """
        prompt = Prompt.of(points, labels, box, mask_input, multimask)
        return self.segment(one_of(image, image_id), prompt, logits=logits)

    def segment(self, image: ImageSource | CachedImage, prompt: Prompt, *, logits: bool = True) -> Prediction:
        """`predict` for a prompt that was built and checked before.

        Raises:
            Sam3Error: see `predict`.
        """
        known = image if isinstance(image, CachedImage) else EncodedImage.of(image)
        conversation = conversations.segment(known, prompt, logits)
        return _carry_out(conversation, self._open(self._transport), self._timeout_s)

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
