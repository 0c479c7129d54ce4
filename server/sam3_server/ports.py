"""Where a server listens."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from sam3_server.errors import ServerError

LOOPBACK = "127.0.0.1"
# The gateway's contract owns 8001, so Triton's usual 8000 to 8002 are moved by ten.
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8010, 8011, 8012


@dataclass(frozen=True)
class Ports:
    """The three ports of one server."""

    http: int = HTTP_PORT
    grpc: int = GRPC_PORT
    metrics: int = METRICS_PORT


def check_free(address: str, port: int, advice: str) -> None:
    """Raises a ServerError, which ends with `advice`, where something listens on a port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ServerError(f"port {port} of {address} {reason}; {advice}") from error
