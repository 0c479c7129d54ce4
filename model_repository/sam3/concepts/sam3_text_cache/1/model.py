"""Triton's side of the text cache: unpack requests, call the text encoder, pack answers."""

from __future__ import annotations

import json
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from clip_tokens import PADDING, ClipTokenizer, Tokens
from text_cleaning import TextError, cleaned
from text_features import TextFeatures

_ENCODER = "sam3_text_encoder"
# Triton's messages for a model that is not loaded, and for a server that stops.
_NOT_READY = (f"Model '{_ENCODER}' is not ready", "Server not ready")
# As many new texts as may form a batch of the encoder.
_MOST_ENCODES = 16


class TritonPythonModel:
    """One instance owns the store; texts are encoded from its own threads."""

    def initialize(self, args) -> None:
        """Reads the vocabulary, and the bound from the model's parameters."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.texts: TextFeatures[np.ndarray, _Caller] = TextFeatures(int(parameters["max_texts"]["string_value"]))
        self.tokenizer = ClipTokenizer()
        self.encoders = ThreadPoolExecutor(_MOST_ENCODES, thread_name_prefix="encode")

    def execute(self, requests) -> None:
        """Answers texts that are kept, and leaves the others to the encode threads."""
        for request in requests:
            caller = _Caller(request.get_response_sender(), request.requested_output_names())
            try:
                self._answer(caller, _text(request))
            except TextError as error:
                caller.fail(str(error), pb_utils.TritonError.INVALID_ARG)
            except Exception:
                pb_utils.Logger.log_error(traceback.format_exc())
                caller.fail("sam3_text_cache failed; the server's log says why", pb_utils.TritonError.INTERNAL)

    def finalize(self) -> None:
        """Waits until all encodes have finished."""
        self.encoders.shutdown(wait=True)

    def _answer(self, caller: _Caller, text: bytes) -> None:
        tokens = caller.tokens = self.tokenizer.tokens(cleaned(text))
        # Texts of equal tokens have equal features.
        features, must_encode = self.texts.ask(tokens.ids.tobytes(), caller)
        if features is not None:
            caller.answer(features)
        elif must_encode:
            self.encoders.submit(self._encode, tokens.ids)

    def _encode(self, ids: np.ndarray) -> None:
        key = ids.tobytes()
        try:
            features = _encoded(ids)
        except Exception as error:  # whatever it is, the waiting requests need an answer
            message = str(error)
            unavailable = any(words in message for words in _NOT_READY)
            code = pb_utils.TritonError.UNAVAILABLE if unavailable else pb_utils.TritonError.INTERNAL
            for caller in self.texts.fail(key):
                caller.fail(message, code)
        else:
            for caller in self.texts.complete(key, features):
                caller.answer(features)


@dataclass
class _Caller:
    """The way back to one caller."""

    sender: Any
    wanted: list[str]
    tokens: Tokens | None = None

    def answer(self, features: np.ndarray) -> None:
        """Sends the requested outputs, or an error if they cannot be sent."""
        assert self.tokens is not None
        outputs = {
            "TEXT_FEATURES": features,
            "TEXT_MASK": (self.tokens.ids != PADDING)[None],
            "TRUNCATED": np.array([self.tokens.truncated]),
        }
        try:
            tensors = [pb_utils.Tensor(name, outputs[name]) for name in self.wanted]
            self._send(pb_utils.InferenceResponse(tensors))
        except Exception as error:  # such as no shared memory left
            pb_utils.Logger.log_error(traceback.format_exc())
            self.fail(f"the text's features cannot be sent: {error}", pb_utils.TritonError.INTERNAL)

    def fail(self, message: str, code: int) -> None:
        """Sends an error. Never raises, so that a failure with one caller does not affect the next one."""
        try:
            self._send(pb_utils.InferenceResponse([], pb_utils.TritonError(message, code)))
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())

    def _send(self, response) -> None:
        self.sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _text(request) -> bytes:
    return pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)[0]


def _encoded(ids: np.ndarray) -> np.ndarray:
    """Features float32 [1, 32, C] of tokens int32 [32].

    Raises:
        RuntimeError: the text encoder answered with an error.
    """
    response = pb_utils.InferenceRequest(
        model_name=_ENCODER,
        requested_output_names=["TEXT_FEATURES"],
        inputs=[pb_utils.Tensor("TOKENS", ids[None])],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    ).exec()
    if response.has_error():
        raise RuntimeError(response.error().message())
    # Triton reclaims the response's memory.
    return response.output_tensors()[0].as_numpy().copy()
