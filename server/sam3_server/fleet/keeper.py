"""Keeps one replica running: starts it again when it has ended, after a pause that grows with each failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from sam3_server.fleet.replica import Replica

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class State(Enum):
    """What a replica is doing."""

    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()  # then it is started again
    PAUSING = auto()  # after a failure


class Keeper:
    """A replica and its state. `tend` moves it on; nothing else waits or runs in the background."""

    def __init__(self, replica: Replica, say: Callable[[str], None]) -> None:
        """
        Args:
            say: called with one line when the state changes.
        """
        self.replica = replica
        self.state = State.PAUSING
        self.failures: list[str] = []  # the reasons of those in a row
        self._say = say
        self._pause_s = _FIRST_PAUSE_S
        self._since = time.monotonic()

    def start(self) -> None:
        """Starts the replica."""
        self.replica.start()
        self._enter(State.STARTING)

    def restart(self) -> None:
        """Starts the replica again, after running requests if it serves."""
        if self.state is State.PAUSING:
            self.start()
        elif self.state is not State.DRAINING:
            self.replica.drain()
            self._enter(State.DRAINING)

    def tend(self) -> None:
        """Moves on to the next state, if it is time."""
        if self.state is State.PAUSING:
            if time.monotonic() > self._since + self._pause_s:
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
                self.start()
        elif self.replica.has_ended():
            reason = self.replica.reason()
            self.replica.clean_up()
            if self.state is State.DRAINING:
                self.start()
            else:
                self.failures.append(reason)
                self._enter(State.PAUSING)
                self._say(f"{self.replica.placement.name}: {reason}; starting it again in {self._pause_s:.0f} s")
        elif self.state is State.STARTING and self.replica.is_ready():
            self._say(f"{self.replica.placement.name} is ready, {time.monotonic() - self._since:.1f} s after its start")
            self._pause_s = _FIRST_PAUSE_S
            self.failures.clear()
            self._enter(State.SERVING)

    def _enter(self, state: State) -> None:
        self.state = state
        self._since = time.monotonic()
