"""`sam3 gateway`."""

from __future__ import annotations

import errno
import logging
import socket

import uvicorn

from sam3_triton.errors import InvalidInputError
from sam3_triton.gateway.app import create_app
from sam3_triton.gateway.settings import Settings, read
from sam3_triton.gateway.telemetry import log_to_stdout

# As many as uvicorn lets wait by itself.
_BACKLOG = 2048
# Requests under way at a stop get this long; the rest are cancelled.
_GRACE_S = 10


def run(arguments: list[str]) -> None:
    """Serves until it is stopped.

    Raises:
        SystemExit: wrong flags or settings.
        InvalidInputError: the address of Triton is none, or the gateway cannot listen on its own.
    """
    settings = read(arguments)
    app = create_app(settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    log_to_stdout()
    config = uvicorn.Config(app, log_level="info", access_log=False, timeout_graceful_shutdown=_GRACE_S)
    with _listen(settings) as listener:
        print(f"http://{settings.host}:{settings.port}/ in front of Triton at {settings.triton}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"port {settings.port} of {settings.host}"
        fault = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise InvalidInputError(f"{where} {fault}; choose another one with --port") from error
    # asyncio leaves it out for a socket that was not made with the protocol's number, and an answer's body then waits
    # 40 ms for the acknowledgement of its headers. Connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
