"""Keeps a server serving: watches its processes, asks it for a mask now and then, restarts what is dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

from sam3_triton import PredictionError, Sam3Client, Sam3Error

from sam3_server.errors import ServerError
from sam3_server.launcher import TritonServer

_WATCH_EVERY_S = 0.2
_PROBE_EVERY_S = 5.0
# Probes fail while a server is merely overloaded, and a restart would only add to that: the cache would be empty.
_HUNG_AFTER_S = 120.0
# A model that answers one probe with an error may have had a bad moment.
_FAILURES = 2
# What is under way in a server with a fault may still be answered this long. Meanwhile probes may succeed, for they do
# not go through the encoder.
_GRACE_S = 1.0
# Starts that are tried before a server is given up, and the seconds between them.
_STARTS, _PAUSE_S = 5, 1.0


def supervise(
    server: TritonServer, say: Callable[[str], None], check_others: Callable[[], None] = lambda: None
) -> NoReturn:
    """Watches a server that has been started, and restarts it whenever it has a fault; never returns.

    Args:
        say: told of each fault and each restart, in one line.
        check_others: called several times a second; what it raises ends the watch.

    Raises:
        ServerError: it does not start any more.
    """
    while True:
        fault = _wait_for_fault(server, check_others)
        noticed = time.monotonic()
        say(f"{fault}; restarting the server")
        server.stop(_GRACE_S)
        _start(server, say)
        say(f"serving again, {time.monotonic() - noticed:.1f} s after the fault was noticed; the cache is empty")


def _start(server: TritonServer, say: Callable[[str], None]) -> None:
    for tries_left in reversed(range(_STARTS)):
        try:
            server.start()
            return
        except ServerError as error:
            if not tries_left:
                raise
            say(f"{error}; trying again")
            time.sleep(_PAUSE_S)


def _wait_for_fault(server: TritonServer, check_others: Callable[[], None]) -> str:
    """Returns, once the server does not work any more, what is wrong with it."""
    prober = _Prober(server.grpc_url)
    try:
        while True:
            if fault := server.fault() or prober.fault():
                return fault
            check_others()
            time.sleep(_WATCH_EVERY_S)
    finally:
        prober.stop()


class _Prober:
    """Asks a server for a mask every few seconds, on a thread of its own: where it is dead, the answer takes long."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last_answer = time.monotonic()
        self._failures = 0  # in a row
        self._error: Exception | None = None
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="probe").start()

    def fault(self) -> str | None:
        """What the probes say is wrong with the server; None: nothing."""
        error, silence = self._error, time.monotonic() - self._last_answer
        if error is not None and not isinstance(error, Sam3Error):
            raise error
        if self._failures >= _FAILURES:
            return f"{self._failures} probes in a row failed: {error}"
        return f"no answer for {silence:.0f} s: {error}" if silence > _HUNG_AFTER_S else None

    def stop(self) -> None:
        """Makes the probe under way the last one."""
        self._stopping.set()

    def _run(self) -> None:
        with Sam3Client(self._url) as client:
            while not self._stopping.wait(_PROBE_EVERY_S):
                try:
                    client.probe()
                except Exception as error:  # handed to whoever asks for the fault
                    self._error = error
                    self._failures += isinstance(error, PredictionError)
                else:
                    self._error, self._failures, self._last_answer = None, 0, time.monotonic()
