"""Shows a run's progress: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

_LINE_EVERY_S = 10.0
_USUAL_SIZE = (80, 24)


class Progress:
    """Progress over prompts, on standard error. As a context manager it removes the bar at the end."""

    def __init__(self, total: int, done: int) -> None:
        """
        Args:
            total: number of prompts in the file.
            done: number of prompts that are already done.
        """
        self._total = total
        self._ended = done
        self._failed = 0
        self._bar = _bar(total, done) if sys.stderr.isatty() else None
        self._next_line = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def advance(self, failed: bool = False) -> None:
        """Counts one more finished prompt."""
        self._ended += 1
        self._failed += failed
        if self._bar is not None:
            if self._failed:
                self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
            self._bar.update()
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_S
            self.say(f"{self._ended} of {self._total} prompts" + (f", {self._failed} failed" if self._failed else ""))


def _bar(total: int, done: int) -> tqdm:
    # Some terminals, for example in containers, report 0 columns. tqdm would then draw nothing.
    known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    columns, rows = (None, None) if known else _USUAL_SIZE
    return tqdm(
        total=total,
        initial=done,
        unit=" prompts",
        file=sys.stderr,
        dynamic_ncols=known,
        ncols=columns,
        nrows=rows,
        leave=False,
    )
