"""Shows the progress of a long export: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# No estimate is shown for shorter units, in seconds: work that is not in the plan then takes most of the time.
_LEAST_UNIT_S = 1.0


class Steps:
    """Prints steps to standard error, and estimates the time left once a unit of work has been timed."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._left = 0.0
        self._unit_s: float | None = None

    def plan(self, cost: float) -> None:
        """Sets the units of work of all coming steps together."""
        self._left = cost

    def measured(self, seconds: float) -> None:
        """Sets the seconds that one unit takes; the first call also prints an estimate for the whole plan."""
        first, self._unit_s = self._unit_s is None, seconds
        if first and (estimate := self._estimate()):
            self._say(f"One image takes {seconds:.0f} s in PyTorch:{estimate}, if the machine's load stays the same")

    @contextmanager
    def step(self, title: str, cost: float = 0.0) -> Iterator[Step]:
        """Runs the body as a step of `cost` units; if it raises, the step's closing line is not printed."""
        if self._console.is_terminal:
            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            with Progress(*columns, console=self._console, transient=True) as live:
                task = live.add_task(f"{title}{self._estimate()}", total=None)
                step = Step(lambda detail: live.update(task, description=f"{title}: {detail}{self._estimate()}"))
                yield step
        else:
            self._say(f"{title} ...{self._estimate()}")
            step = Step(lambda detail: None)
            yield step
        self._left -= cost
        self._say(f"{title}: {step.result or 'done'} ({step.seconds:.1f} s)")

    def _estimate(self) -> str:
        if self._unit_s is None or self._unit_s < _LEAST_UNIT_S:
            return ""
        return f" about {max(1, round(self._left * self._unit_s / 60))} min left"

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


class Step:
    """A running step; `show` displays its current detail."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show = show
        self._start = time.monotonic()
        self.result = ""

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._start
