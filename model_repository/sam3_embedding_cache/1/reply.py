"""Answers one request, exactly once. Independent of Triton."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from cache_errors import ErrorKind
from concept_prompts import ConceptLayout, ConceptPrompt, lay_out_concept
from image_embedding import BACKBONE_FEATURES, ImageEmbedding
from prompts import Layout, Prompt, PromptError, lay_out

# Outputs that only a click or only a concept needs. An ensemble asks for its own.
_CLICK_OUTPUTS = frozenset(field.name.upper() for field in fields(Layout))
_CONCEPT_OUTPUTS = frozenset(field.name.upper() for field in fields(ConceptLayout)) | {BACKBONE_FEATURES, "HAS_CONCEPT"}


class Channel(Protocol):
    """Sends the answer to one caller. After one message has arrived, it takes no more."""

    def send(self, arrays: dict[str, np.ndarray], tensors: dict[str, Any]) -> None:
        """Sends outputs by name: arrays, and ready-made tensors."""

    def send_error(self, message: str, kind: ErrorKind) -> None:
        """Sends an error."""

    def is_cancelled(self) -> bool:
        """Whether the caller has gone. Must not be called after a message was sent."""


class Reply:
    """Answers one request, once; later answers are dropped. Thread-safe."""

    def __init__(
        self,
        channel: Channel,
        wanted: Collection[str],
        model: np.ndarray,
        timeout_us: int,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        queries: int | None = None,
    ) -> None:
        """
        Args:
            wanted: names of the outputs that the request asks for.
            model: the output MODEL, object [2]: the model's name and its checkpoint's sha256.
            timeout_us: microseconds after which the caller stops waiting; 0: it waits forever.
            log: receives the traceback if an answer cannot be sent.
            clock: returns seconds.
            queries: how many queries the concept detector has; None if it was not exported.
        """
        self.key = ""
        self.prompt = Prompt()
        self.concept = ConceptPrompt()
        self._channel = channel
        self._wanted = frozenset(wanted)
        self._model = model
        self._queries = queries
        self._log = log
        self._clock = clock
        self._deadline = clock() + timeout_us / 1e6 if timeout_us else float("inf")
        self._lock = threading.Lock()
        self._open = True

    @property
    def wants_model_only(self) -> bool:
        """Whether the request asks for MODEL and nothing else, which needs no image."""
        return self._wanted == {"MODEL"}

    @property
    def wants_concept(self) -> bool:
        """Whether the request asks for outputs that only a concept needs."""
        return bool(self._wanted & _CONCEPT_OUTPUTS)

    def model(self) -> None:
        """Sends MODEL. Never raises."""
        try:
            self._send(lambda: self._channel.send({"MODEL": self._model}, {}))
        except Exception as error:
            self._log(traceback.format_exc())
            self.error(f"the model's name cannot be sent: {error}", ErrorKind.INTERNAL)

    def embedding(
        self, embedding: ImageEmbedding, as_tensors: Callable[[ImageEmbedding], dict[str, Any]], hit: bool
    ) -> None:
        """Sends the requested outputs, or an error if the prompt does not fit the image. Never raises.

        Args:
            as_tensors: makes tensors of the features, by output name; called only if one of them is requested.
            hit: whether the embedding came from the cache.
        """
        try:
            arrays = {name: array for name, array in self._arrays(embedding, hit).items() if name in self._wanted}
            tensors = as_tensors(embedding) if self._wanted.intersection(embedding.features) else {}
            tensors = {name: tensor for name, tensor in tensors.items() if name in self._wanted}
            self._send(lambda: self._channel.send(arrays, tensors))
        except PromptError as error:
            self.error(str(error), ErrorKind.INVALID_ARG)
        except Exception as error:  # such as no shared memory left
            self._log(traceback.format_exc())
            self.error(f"the features cannot be sent: {error}", ErrorKind.INTERNAL)

    def error(self, message: str, kind: ErrorKind) -> None:
        """Sends an error. Never raises, so that a failure with one caller does not affect the next one."""
        try:
            self._send(lambda: self._channel.send_error(message, kind))
        except Exception:
            self._log(traceback.format_exc())

    def is_cancelled(self) -> bool:
        """Whether the caller has gone. Inside an ensemble, Triton (at least 2.51) does not report it."""
        with self._lock:
            return self._open and self._channel.is_cancelled()

    def is_late(self) -> bool:
        """Whether the timeout that came with the request has passed."""
        return self._clock() > self._deadline

    def _arrays(self, embedding: ImageEmbedding, hit: bool) -> dict[str, np.ndarray]:
        """All outputs except the features, and except layouts of which no output is requested."""
        return {
            **self._layouts(embedding),
            # A prefetch has no prompt. The cache does not know whether masks were requested, so the postprocessing
            # models, which run only for masks and the like, refuse a request without a prompt.
            "HAS_PROMPT": np.array([not self.prompt.is_empty]),
            "HAS_CONCEPT": np.array([not self.concept.is_empty]),
            "ORIGINAL_SIZE": embedding.original_size,
            "IMAGE_ID": np.array([self.key.encode()], np.object_),
            "CACHE_HIT": np.array([hit]),
            "MODEL": self._model,
        }

    def _layouts(self, embedding: ImageEmbedding) -> dict[str, np.ndarray]:
        size = embedding.original_size.tolist()
        parts: dict[str, np.ndarray] = {}
        if self._wanted & _CLICK_OUTPUTS:
            parts |= vars(lay_out(self.prompt, size, embedding.low_res_size))
        if self.wants_concept:
            if self._queries is None:
                raise PromptError("the model was exported without concept prompts")
            parts |= vars(lay_out_concept(self.concept, size, self._queries))
        return {name.upper(): value for name, value in parts.items()}

    def _send(self, send: Callable[[], None]) -> None:
        with self._lock:
            if self._open:
                send()
                self._open = False  # still open if sending raised: an error may still arrive
