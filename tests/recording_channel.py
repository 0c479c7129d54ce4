"""The way back to a caller of the embedding cache, for tests without Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
from cache_errors import ErrorKind


class RecordingChannel:
    """Holds what was sent. Like Triton's sender, it must not be asked anything after that."""

    def __init__(self, answer_fault: Exception | None = None, error_fault: Exception | None = None) -> None:
        """
        Args:
            answer_fault: what each attempt to send an answer raises.
            error_fault: what each attempt to send an error raises.
        """
        self.answers: list[dict[str, Any]] = []
        self.errors: list[tuple[str, ErrorKind]] = []
        self.cancelled = False
        self._answer_fault, self._error_fault = answer_fault, error_fault

    @property
    def messages(self) -> int:
        """How many answers and errors have arrived."""
        return len(self.answers) + len(self.errors)

    def send(self, arrays: dict[str, np.ndarray], tensors: dict[str, Any]) -> None:
        if self._answer_fault:
            raise self._answer_fault
        assert not arrays.keys() & tensors.keys()
        self.answers.append({**arrays, **tensors})

    def send_error(self, message: str, kind: ErrorKind) -> None:
        if self._error_fault:
            raise self._error_fault
        self.errors.append((message, kind))

    def is_cancelled(self) -> bool:
        assert not self.messages, "asked after the last message"
        return self.cancelled
