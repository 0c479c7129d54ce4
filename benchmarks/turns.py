"""Times several ways to do the same in turns, so that a disturbance hits all of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable


def in_turns(ways: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, list[float]]:
    """The median milliseconds of each way in each round. A first round, which warms up, is not counted.

    Args:
        ways: name -> what is called, and how often in a round.
    """
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (call, count) in ways.items():
            seconds = []
            for _ in range(count):
                started = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - started)
            if number:
                turns[name].append(1000 * statistics.median(seconds))
        print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
    return turns
