"""The socket that the gateway listens on."""

from __future__ import annotations

import socket

from sam3_gateway.cli import _listen
from sam3_gateway.settings import Settings


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with _listen(Settings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
