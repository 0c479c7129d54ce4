"""What a worker tells the run that started it: one JSON object a line, through a pipe."""

from __future__ import annotations

import json
from typing import IO, Any

BEGIN, FIGURES, END = "begin", "figures", "end"


class SkippedError(Exception):
    """A stage, or a part of one, cannot be measured here; the message says why."""


class Channel:
    """The worker's end of the pipe."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._send({"event": BEGIN, "stage": stage})

    def figures(self, stage: str, figures: dict[str, Any]) -> None:
        """All figures of a stage so far."""
        self._send({"event": FIGURES, "stage": stage, "figures": figures})

    def end(self, stage: str, status: str, reason: str = "") -> None:
        """A stage has ended."""
        self._send({"event": END, "stage": stage, "status": status, "reason": reason})

    def _send(self, message: dict[str, Any]) -> None:
        self._pipe.write(json.dumps(message) + "\n")
        self._pipe.flush()
