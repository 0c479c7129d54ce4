"""The limit: the server's networks and functions, called in one process. No server can be faster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import tritonclient.grpc as triton
from binary_masks import to_png
from image_preprocess import decode, to_network_pixels
from mask_postprocess import to_mask
from prompts import Prompt, lay_out
from sam3_server.session_options import session_options

from benchmarks.clicks import Click

Arrays = dict[str, np.ndarray]
ENCODER, DECODER = "sam3_image_encoder", "sam3_mask_decoder"


class Limit:
    """Bare ONNX Runtime sessions with the options of a running server, and the Python models' functions."""

    def __init__(self, repository: Path, server: triton.InferenceServerClient) -> None:
        """
        Args:
            repository: the model repository that the server serves.
            server: its model configs give the file and the options of each network.
        """
        cv2.setNumThreads(1)  # as sam3_mask_postprocess does
        self._encoder = session(repository, server, ENCODER)
        self._decoder = session(repository, server, DECODER)
        self._side = self._encoder.get_inputs()[0].shape[1]
        # Seconds of each step, one entry a call, for the waterfall.
        self.steps: dict[str, list[float]] = {}

    def encode(self, image: bytes) -> Arrays:
        """Features of an image file, by the names of the decoder's inputs, and its `ORIGINAL_SIZE` (height, width)."""
        with self._step("decode"):
            picture = decode(image)
        with self._step("resize"):
            pixels = to_network_pixels(picture, self._side)
        with self._step("encoder"):
            features = run(self._encoder, {"PIXELS": pixels})
        return {**features, "ORIGINAL_SIZE": np.array(picture.shape[:2])}

    def mask(self, embedding: Arrays, click: Click) -> bytes:
        """The best mask as a PNG."""
        height, width = embedding["ORIGINAL_SIZE"].tolist()
        features = {name: value for name, value in embedding.items() if name != "ORIGINAL_SIZE"}
        with self._step("prompt"):
            rows, columns = features["HIGH_RES_FEATURES_0"].shape[-2:]
            prompt = lay_out(Prompt(points=np.array([[click.point]], np.float32)), (height, width), (rows, columns))
            inputs = {name.upper(): value for name, value in vars(prompt).items()}
        with self._step("decoder"):
            logits = run(self._decoder, {**features, **inputs})["MASK_LOGITS"]
        with self._step("holes and resize"):
            mask = to_mask(logits[0, 0, 0], (height, width))
        with self._step("PNG"):
            return to_png(mask)

    def count(self, step: str) -> int:
        """How often a step has run."""
        return len(self.steps.get(step, []))

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.steps.setdefault(name, []).append(time.perf_counter() - started)


def session(repository: Path, server: triton.InferenceServerClient, model: str) -> onnxruntime.InferenceSession:
    """A session with a model's file, and the options that its server gives it."""
    config: dict[str, Any] = server.get_model_config(model, as_json=True)["config"]
    options = session_options(config.get("parameters", {}))
    path = repository / model / "1" / config["default_model_filename"]
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, inputs: Arrays) -> Arrays:
    """All outputs, by name."""
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
