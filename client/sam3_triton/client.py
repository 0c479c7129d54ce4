"""The client: an image and a prompt in, masks out."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from sam3_triton.errors import ImageNotCachedError, InvalidInputError, Sam3Error, ServerUnavailableError
from sam3_triton.images import EncodedImage, ImageSource
from sam3_triton.predictions import Prediction
from sam3_triton.prompts import Prompt
from sam3_triton.transport import Arrays, Transport, connect

DEFAULT_URL = "localhost:8011"
# The first click on an image at full size takes up to a minute where there is no GPU.
DEFAULT_TIMEOUT_S = 120.0
# A warm click takes well under a second; a server that needs longer than this is of no use now.
PROBE_TIMEOUT_S = 5.0

_PROBE_IMAGE = EncodedImage.of(np.full((16, 16, 3), 128, np.uint8))
_PROBE_POINTS = np.array([[8, 8]], np.float32)
_PREDICTION = ("MASKS", "SCORES", "LOW_RES_LOGITS", "IMAGE_ID", "CACHE_HIT")


class Sam3Client:
    """Talks to the ensemble `sam3`. Threads may share one client."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """
        Args:
            url: `host:port` or `grpc://host:port` for gRPC, `http://host:port` for HTTP; nothing is sent yet.
            timeout_s: seconds to wait for one answer.
        """
        self._transport = connect(url, timeout_s)
        self._probing = connect(url, min(timeout_s, PROBE_TIMEOUT_S))

    def __enter__(self) -> Sam3Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()
        self._probing.close()

    def probe(self) -> None:
        """Clicks on a small picture, which goes through every model; the encoder runs the first time only.

        Triton's own readiness says yes even where the process of a Python model has died, so this asks for a mask.

        Raises:
            Sam3Error: no mask came within `PROBE_TIMEOUT_S`, and why.
        """
        self._probing.infer({"IMAGE": _image_tensor(_PROBE_IMAGE)}, ("ORIGINAL_SIZE",), "sam3_preprocess")
        self._send(self._probing, _PROBE_IMAGE, {"POINTS": _PROBE_POINTS}, ("MASKS",))

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
        answer = self._send(self._transport, EncodedImage.of(image), {}, ("IMAGE_ID",))
        return answer["IMAGE_ID"][0].decode()

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

        Raises:
            InvalidInputError: the image or the prompt makes no sense.
            ImageNotCachedError: `image_id` alone was given, and the server does not know it.
            ServerUnavailableError, DeadlineExceededError, PredictionError: the server's side.
        """
        prompt = Prompt.of(points, labels, box, mask_input, multimask)
        if (image is None) == (image_id is None):
            raise InvalidInputError("give an image or an image_id, and not both")
        if image_id is not None:
            answer = self._transport.infer({**_id_input(image_id), **_prompt_inputs(prompt)}, _PREDICTION)
        else:
            assert image is not None
            answer = self._send(self._transport, EncodedImage.of(image), _prompt_inputs(prompt), _PREDICTION)
        return Prediction(
            mask_pngs=tuple(answer["MASKS"].tolist()),
            scores=answer["SCORES"],
            low_res_logits=answer["LOW_RES_LOGITS"],
            image_id=answer["IMAGE_ID"][0].decode(),
            cache_hit=bool(answer["CACHE_HIT"][0]),
        )

    @staticmethod
    def _send(transport: Transport, image: EncodedImage, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        try:
            return transport.infer({**_id_input(image.image_id), **inputs}, outputs)
        except ImageNotCachedError:
            pass
        try:
            return transport.infer({"IMAGE": _image_tensor(image), **inputs}, outputs)
        except ImageNotCachedError as error:  # the image was sent, so it is the model that was not found
            raise ServerUnavailableError(str(error)) from error


def _image_tensor(image: EncodedImage) -> np.ndarray:
    return np.array([image.data], np.object_)


def _id_input(image_id: str) -> Arrays:
    return {"CACHED_IMAGE_ID": np.array([image_id.encode()], np.object_)}


def _prompt_inputs(prompt: Prompt) -> Arrays:
    inputs = {
        "POINTS": prompt.points,
        "LABELS": prompt.labels,
        "BOX": prompt.box,
        "MASK_INPUT": prompt.mask_input,
        "MULTIMASK": np.array([prompt.multimask]),
    }
    return {name: array for name, array in inputs.items() if array is not None}
