"""Calls a function periodically. Independent of Triton."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable


class Periodic:
    """A thread that calls `action` every `seconds` until it is stopped. Errors are logged and do not stop it."""

    def __init__(self, action: Callable[[], None], seconds: float, log: Callable[[str], None]) -> None:
        """Starts the thread; the first call comes after `seconds`.

        Args:
            log: receives the traceback of what `action` raises.
        """
        self._action = action
        self._seconds = seconds
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"every {seconds:g} s")
        self._thread.start()

    def stop(self) -> None:
        """Waits for a running call to end; `action` is not called again."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._action()
            except Exception:
                self._log(traceback.format_exc())
