"""The kinds of errors that a caller gets, and the kind of a failed encode. Independent of Triton."""

from __future__ import annotations

import re
from enum import Enum, auto

# Which of them the cache calls depends on whether the export has concept prompts.
ENCODE_MODEL, ENCODE_CONCEPTS_MODEL = "sam3_encode", "sam3_encode_concepts"
# Triton drops an error's code on the way back from them. sam3_preprocess starts its messages with this text.
INVALID_IMAGE = "invalid image: "
# Triton's messages for a model that is not loaded, and for a server that stops. The first also appears while models are
# loaded one by one, before those two. (Calling is_model_ready while the server starts would abort it: Triton 2.51.)
NOT_READY = (
    *(f"Model '{model}' is not ready" for model in (ENCODE_MODEL, ENCODE_CONCEPTS_MODEL)),
    "Server not ready",
)
# Triton's prefix to the error of an inner model. It is removed, because callers do not know the inner models.
_ENSEMBLE_PREFIX = re.compile(r"^(in ensemble '[^']*', )+")


class ErrorKind(Enum):
    """The kind of an error, with the name of Triton's error code."""

    INVALID_ARG = auto()
    """The request is invalid."""
    NOT_FOUND = auto()
    """The image is not cached, and its bytes were not given."""
    UNAVAILABLE = auto()
    """A later attempt may succeed."""
    CANCELLED = auto()
    """The caller has gone."""
    INTERNAL = auto()
    """The server failed."""


class EncodeError(Exception):
    """The encode model answered with an error."""

    def __init__(self, message: str) -> None:
        """
        Args:
            message: Triton's text, which may name the ensembles that the error passed through.
        """
        super().__init__(_ENSEMBLE_PREFIX.sub("", message))


def kind_of(message: str) -> ErrorKind:
    """The kind of an encode's error, judged by its message alone."""
    if message.startswith(INVALID_IMAGE):
        return ErrorKind.INVALID_ARG
    if any(words in message for words in NOT_READY):
        return ErrorKind.UNAVAILABLE
    return ErrorKind.INTERNAL
