from __future__ import annotations

import threading

from periodic import Periodic

PATIENCE_S = 30


def test_an_error_is_logged_and_the_next_call_comes() -> None:
    calls: list[int] = []
    log: list[str] = []
    third = threading.Event()

    def action() -> None:
        calls.append(threading.get_ident())
        if len(calls) == 1:
            raise RuntimeError("a fault on purpose")
        if len(calls) == 3:
            third.set()

    periodic = Periodic(action, 0.001, log.append)
    came = third.wait(PATIENCE_S)
    periodic.stop()
    assert came
    assert len({*calls, threading.get_ident()}) == 2  # one thread, and not the caller's
    assert len(log) == 1
    assert log[0].startswith("Traceback")
    assert "a fault on purpose" in log[0]


def test_stop_waits_for_a_running_call_and_allows_no_other() -> None:
    started, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def action() -> None:
        started.set()
        ended.append(go_on.wait(PATIENCE_S))

    periodic = Periodic(action, 0.001, print)
    assert started.wait(PATIENCE_S)
    stopping = threading.Thread(target=periodic.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    go_on.set()
    stopping.join(PATIENCE_S)
    count = len(ended)
    assert count == 1
    threading.Event().wait(0.02)
    assert len(ended) == count


def test_stop_does_not_wait_for_the_next_call() -> None:
    calls: list[None] = []
    periodic = Periodic(lambda: calls.append(None), 10 * PATIENCE_S, print)
    stopping = threading.Thread(target=periodic.stop)
    stopping.start()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    assert not calls
