"""Says what a long export is doing and for how long: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
        if self._console.is_terminal:
            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            with Progress(*columns, console=self._console, transient=True) as live:
                task = live.add_task(title, total=None)
                step = Step(lambda detail: live.update(task, description=f"{title}: {detail}"))
                yield step
        else:
            self._console.print(f"{title} ...", soft_wrap=True, markup=False)
            step = Step(lambda detail: None)
            yield step
        self._console.print(f"{title}: {step.result or 'done'} ({step.seconds:.1f} s)", soft_wrap=True, markup=False)


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
