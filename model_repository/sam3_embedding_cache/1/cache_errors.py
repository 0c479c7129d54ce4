"""The kinds of errors that a caller is told, and which of them a failed encode is. Knows nothing of Triton."""

from __future__ import annotations

import re
from enum import Enum, auto

ENCODE_MODEL = "sam3_encode"
# An error loses its code on the way back from ENCODE_MODEL. sam3_preprocess begins its own with this text.
INVALID_IMAGE = "invalid image: "
# In Triton's words: not loaded, and stopping. Triton says the first where models are loaded one by one and ENCODE_MODEL
# is not among them yet. (Asking is_model_ready while the server starts would abort it: Triton 2.51.)
NOT_READY = (f"Model '{ENCODE_MODEL}' is not ready", "Server not ready")
# Triton puts these in front of an error of an inner model; the caller did not ask for ENCODE_MODEL.
_ENSEMBLE_PREFIX = re.compile(r"^(in ensemble '[^']*', )+")


class ErrorKind(Enum):
    """Whose fault an error is. The names are those of Triton's error codes."""

    INVALID_ARG = auto()
    """The request makes no sense."""
    NOT_FOUND = auto()
    """The image is not cached, and its bytes were not given."""
    UNAVAILABLE = auto()
    """It may work later."""
    CANCELLED = auto()
    """The caller has gone."""
    INTERNAL = auto()
    """A fault of the server."""


class EncodeError(Exception):
    """The encode model answered with an error."""

    def __init__(self, message: str) -> None:
        """
        Args:
            message: Triton's text, which may name the ensembles that the error passed through.
        """
        super().__init__(_ENSEMBLE_PREFIX.sub("", message))


def kind_of(message: str) -> ErrorKind:
    """The kind of an encode's error, by its text alone."""
    if message.startswith(INVALID_IMAGE):
        return ErrorKind.INVALID_ARG
    if any(words in message for words in NOT_READY):
        return ErrorKind.UNAVAILABLE
    return ErrorKind.INTERNAL
