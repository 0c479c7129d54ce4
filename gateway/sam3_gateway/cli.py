"""The command `sam3-gateway`."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys

import uvicorn
from sam3_triton import Sam3Error

from sam3_gateway.app import create_app
from sam3_gateway.backend import connect
from sam3_gateway.connections import bounded
from sam3_gateway.errors import GatewayError
from sam3_gateway.settings import Settings, read
from sam3_gateway.telemetry import log_to_stdout

# uvicorn's default.
_BACKLOG = 2048
# After a stop signal, requests in flight may take this long before they are cancelled.
_GRACE_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Serves until stopped. Returns the exit code: 0, or 1 with one line on standard error.

    Raises:
        SystemExit: after --help or a stop signal, or if a flag or setting is invalid.
    """
    settings = read(sys.argv[1:] if arguments is None else arguments)
    # uvicorn raises the signal again once it has shut down. Being asked to stop is no failure.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: sys.exit(0))
    try:
        _serve(settings)
    except (GatewayError, Sam3Error) as error:
        print(f"sam3-gateway: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(settings: Settings) -> None:
    app = create_app(settings, connect(settings))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    log_to_stdout()
    config = uvicorn.Config(
        app,
        http=bounded(settings.header_timeout_s, settings.max_connections),
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
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
        raise GatewayError(f"{where} {fault}; choose another with --port") from error
    # asyncio sets TCP_NODELAY only on sockets created with an explicit protocol number. Without it, an answer's body
    # waits 40 ms for the acknowledgement of its headers. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    sys.exit(main())
