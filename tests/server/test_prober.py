"""When probes count as a fault. No server runs: the probes' outcomes are simulated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sam3_server import supervisor
from sam3_triton import DeadlineExceededError, PredictionError, Sam3Client, ServerUnavailableError


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Starts a prober whose probes have the given outcomes; the last outcome repeats."""
    monkeypatch.setattr(supervisor, "_PROBE_EVERY_S", 0.01)
    probers = []

    def start(*outcomes: Exception | None) -> supervisor._Prober:
        left = list(outcomes)

        def probe(client: Sam3Client) -> None:
            outcome = left.pop(0) if len(left) > 1 else left[0]
            if outcome is not None:
                raise outcome

        monkeypatch.setattr(Sam3Client, "probe", probe)
        probers.append(supervisor._Prober("localhost:1"))
        return probers[-1]

    yield start
    for prober in probers:
        prober.stop()


def wait_for_fault(prober: supervisor._Prober) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if fault := prober.fault():
            return fault
        time.sleep(0.005)
    raise AssertionError("no fault")


def stays_without_fault(prober: supervisor._Prober) -> bool:
    for _ in range(30):
        if prober.fault():
            return False
        time.sleep(0.01)
    return True


def test_a_server_that_answers_has_no_fault(probing: Callable) -> None:
    assert stays_without_fault(probing(None))


def test_two_errors_in_a_row_are_a_fault(probing: Callable) -> None:
    fault = wait_for_fault(probing(None, PredictionError("the decoder raised")))
    assert fault.endswith("probes in a row failed: the decoder raised")


def test_one_error_is_not(probing: Callable) -> None:
    bad = PredictionError("a bad moment")
    assert stays_without_fault(probing(bad, None, bad, None, bad, None))


@pytest.mark.parametrize("error", [ServerUnavailableError("too busy"), DeadlineExceededError("no answer")])
def test_an_overloaded_server_is_left_alone_for_long(
    probing: Callable, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    prober = probing(error)
    assert stays_without_fault(prober)
    monkeypatch.setattr(supervisor, "_HUNG_AFTER_S", 0.05)
    assert f"s: {error}" in wait_for_fault(prober)


def test_a_fault_of_the_prober_itself_is_not_swallowed(probing: Callable) -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for_fault(probing(ZeroDivisionError()))
