"""The arguments of `sam3-serve`."""

from __future__ import annotations

import io
import signal
import sys
from itertools import count

import pytest
from sam3_server import cli


@pytest.mark.parametrize(
    ("flag", "value", "fault"),
    [
        ("--replicas", "0", "expected a whole number above 0, not '0'"),
        ("--replicas", "two", "expected a whole number above 0, not 'two'"),
        ("--drain-s", "-1", "expected seconds, 0 or more, not '-1'"),
        ("--drain-s", "10s", "expected seconds, 0 or more, not '10s'"),
        ("--gpus", "0,0", "expected ids without repetition, such as 0,1, not '0,0'"),
        ("--gpus", "0,,1", "expected ids without repetition, such as 0,1, not '0,,1'"),
    ],
)
def test_an_invalid_value_is_named(flag: str, value: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([f"{flag}={value}"])
    assert f"argument {flag}: {fault}" in capsys.readouterr().err


def test_closing_a_terminal_counts_as_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell and the kernel each send SIGHUP; a second signal would cut running requests off."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(cli, "_signals", count(1))
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        cli._handle_signals()
        with pytest.raises(cli._Terminated):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
