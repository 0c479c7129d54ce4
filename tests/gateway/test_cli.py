"""The gateway's command: the socket that it listens on, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from repository import free_ports
from sam3_gateway.cli import _listen
from sam3_gateway.settings import Settings


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with _listen(Settings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_stopping_it_is_no_failure(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "sam3_gateway.cli", "--port", str(free_ports(1)[0]), "--triton", "127.0.0.1:1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("startup complete" in line for line in process.stderr)
    process.send_signal(stop)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in log
