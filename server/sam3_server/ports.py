"""The ports that a server listens on."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from sam3_server.errors import ServerError

LOOPBACK = "127.0.0.1"
# Triton's usual ports are 8000 to 8002, but 8001 is the gateway's; so add ten.
HTTP_PORT, GRPC_PORT, METRICS_PORT, HEALTH_PORT = 8010, 8011, 8012, 8013


@dataclass(frozen=True)
class Ports:
    """The three ports of a Triton."""

    http: int = HTTP_PORT
    grpc: int = GRPC_PORT
    metrics: int = METRICS_PORT


def check_free(address: str, port: int, advice: str) -> None:
    """Raises a ServerError that ends with `advice` if the port is in use or cannot be used."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ServerError(f"port {port} of {address} {reason}; {advice}") from error
        except OverflowError as error:
            raise ServerError(f"there is no port {port}; {advice}") from error
