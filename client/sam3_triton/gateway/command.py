"""`sam3 gateway`."""

from __future__ import annotations

import logging

import uvicorn

from sam3_triton.gateway.app import create_app
from sam3_triton.gateway.settings import read
from sam3_triton.gateway.telemetry import log_to_stdout

# Requests under way at a stop get this long; the rest are cancelled.
_GRACE_S = 10


def run(arguments: list[str]) -> None:
    """Serves until it is stopped.

    Raises:
        SystemExit: wrong flags or settings.
        InvalidInputError: the address of Triton is none.
    """
    settings = read(arguments)
    app = create_app(settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    log_to_stdout()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
