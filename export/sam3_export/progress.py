"""Says what a long export is doing and for how long: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# Seconds of a unit below which what is not planned takes longer than what is.
_LEAST_UNIT_S = 1.0


class Steps:
    """Announces steps on standard error, and estimates what is left once it knows what a unit of work takes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._left = 0.0
        self._unit_s: float | None = None

    def plan(self, cost: float) -> None:
        """Says how many units of work all steps to come are."""
        self._left = cost

    def measured(self, seconds: float) -> None:
        """Says what one unit takes; the first word also tells how long all that is planned will take."""
        first, self._unit_s = self._unit_s is None, seconds
        if first and (estimate := self._estimate()):
            self._say(f"An image takes {seconds:.0f} s in PyTorch:{estimate}, if the machine stays as busy as it is")

    @contextmanager
    def step(self, title: str, cost: float = 0.0) -> Iterator[Step]:
        """Runs the body as one step of so many units; a step that raises is left without its closing line."""
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
    """One step under way; `show` tells what it is at now."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show = show
        self._start = time.monotonic()
        self.result = ""

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._start
