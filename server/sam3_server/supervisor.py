"""Watches a server's processes, sends it a probe every few seconds, and restarts it after a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

from sam3_triton import PredictionError, Sam3Client, Sam3Error

from sam3_server.errors import ServerError
from sam3_server.health import READY, RESTARTING, UNRESPONSIVE, Health
from sam3_server.launcher import TritonServer

_WATCH_EVERY_S = 0.2
_PROBE_EVERY_S = 5.0
# Probes also fail while a server is overloaded. A restart would make that worse, because it empties the cache.
_HUNG_AFTER_S = 120.0
# Without an answer for this long, which is three probes, the server is not ready: proxies should use another one.
_UNRESPONSIVE_AFTER_S = 30.0
# One error may be temporary; this many failed probes in a row are a fault.
_FAILURES = 2
# A server with a fault may still answer running requests for this long. Probes may succeed until then, because they
# skip the encoder.
_GRACE_S = 1.0
# Attempts to start a server, and the pause between them.
_STARTS, _PAUSE_S = 5, 1.0


def supervise(
    server: TritonServer,
    say: Callable[[str], None],
    check_others: Callable[[], None] = lambda: None,
    health: Health | None = None,
) -> NoReturn:
    """Watches a started server and restarts it after every fault; never returns.

    Args:
        say: called with one line for each fault and each restart.
        check_others: called five times a second; an exception from it ends the watch.
        health: is kept up to date.

    Raises:
        ServerError: the server could not be started again.
    """
    health = health or Health()
    while True:
        fault = _wait_for_fault(server, check_others, health)
        health.report(RESTARTING, fault)
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


def _wait_for_fault(server: TritonServer, check_others: Callable[[], None], health: Health) -> str:
    """Waits until the server has a fault, and describes it."""
    prober = _Prober(server.grpc_url)
    try:
        while True:
            if fault := server.fault() or prober.fault():
                return fault
            silence = prober.silence_s()
            if silence > _UNRESPONSIVE_AFTER_S:
                health.report(UNRESPONSIVE, f"no answer for {silence:.0f} s")
            else:
                health.report(READY)
            check_others()
            time.sleep(_WATCH_EVERY_S)
    finally:
        prober.stop()


class _Prober:
    """Sends probes from its own thread, because a dead server may take long to answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last_answer = time.monotonic()
        self._failures = 0  # in a row
        self._error: Exception | None = None
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="probe").start()

    def silence_s(self) -> float:
        """Seconds since a probe was answered, or since the start."""
        return time.monotonic() - self._last_answer

    def fault(self) -> str | None:
        """The fault that the probes show, or None."""
        error, silence = self._error, self.silence_s()
        if error is not None and not isinstance(error, Sam3Error):
            raise error
        if self._failures >= _FAILURES:
            return f"{self._failures} probes in a row failed: {error}"
        return f"no answer for {silence:.0f} s: {error}" if silence > _HUNG_AFTER_S else None

    def stop(self) -> None:
        """Sends no further probe."""
        self._stopping.set()

    def _run(self) -> None:
        with Sam3Client(self._url) as client:
            while not self._stopping.wait(_PROBE_EVERY_S):
                try:
                    client.probe()
                except Exception as error:  # `fault` reports it
                    self._error = error
                    self._failures += isinstance(error, PredictionError)
                else:
                    self._error, self._failures, self._last_answer = None, 0, time.monotonic()
