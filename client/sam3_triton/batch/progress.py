"""How a run shows how far it is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

_LINE_EVERY_S = 10.0
_USUAL_SIZE = (80, 24)


class Progress:
    """Of prompts, on standard error; as a context manager it takes the bar away at the end."""

    def __init__(self, total: int, done: int) -> None:
        """
        Args:
            total: prompts in the file.
            done: those of them that need nothing.
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
        """A line above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def advance(self, failed: bool = False) -> None:
        """One more prompt has ended."""
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
    # A terminal that does not know its size, a container's say, gives 0, and tqdm then draws nothing.
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
