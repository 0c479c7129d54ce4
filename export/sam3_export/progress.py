"""Says what a long export is doing and for how long: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps:
    """Announces steps on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Runs the body as one step; a step that raises is left without its closing line."""
        step = Step()
        if self._console.is_terminal:
            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            with Progress(*columns, console=self._console, transient=True) as live:
                task = live.add_task(title, total=None)
                step.show = lambda detail: live.update(task, description=f"{title}: {detail}")
                yield step
        else:
            self._console.print(f"{title} ...", soft_wrap=True, markup=False)
            yield step
        self._console.print(f"{title}: {step.result or 'done'} ({step.seconds:.1f} s)", soft_wrap=True, markup=False)


class Step:
    """One step under way."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.result = ""

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._start

    def show(self, detail: str) -> None:
        """Tells what the step is at now; seen on a terminal alone."""
