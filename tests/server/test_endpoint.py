"""Endpoints for health and metrics, and what reads them."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from repository import free_ports
from sam3_server.endpoint import Endpoint, Reply
from sam3_server.errors import ServerError
from sam3_server.fleet.replica import read
from sam3_server.ports import check_free


def test_a_caller_that_has_gone_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Load balancers check a port by a connection that they reset."""
    (port,) = free_ports(1)
    large = Reply(200, "text/plain", bytes(50_000_000))
    with Endpoint("127.0.0.1", port, {"/large": lambda: large}):
        for request in (b"", b"GET /la", b"GET /large HTTP/1.0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall(request)
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        assert read(f"http://127.0.0.1:{port}/nothing") == b"not found\n"  # so the others have been accepted, too
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_an_answer_that_breaks_off_is_none(answer: bytes) -> None:
    """A replica that dies in the middle of one must not end the fleet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def break_off() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(OSError, match="."):
            read(f"http://127.0.0.1:{listener.getsockname()[1]}/health/ready")
        thread.join()


def test_a_port_that_cannot_be_is_told() -> None:
    with pytest.raises(ServerError, match="there is no port 70000; choose another one"):
        check_free("127.0.0.1", 70_000, "choose another one")
