"""A small HTTP endpoint for GET requests, for health checks and metrics."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType


@dataclass(frozen=True)
class Reply:
    """An answer to a GET request."""

    status: int
    content_type: str
    body: bytes


class Endpoint:
    """Answers GET requests for some paths from threads of its own, as a context manager."""

    def __init__(self, address: str, port: int, routes: Mapping[str, Callable[[], Reply]]) -> None:
        """
        Args:
            routes: path -> what answers it; it may be called by several threads at a time.

        Raises:
            OSError: the port is in use.
        """
        handler = type("Handler", (_Handler,), {"routes": dict(routes)})
        self._server = _Server((address, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="endpoint")

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingTCPServer):  # HTTPServer would look up its own name by DNS
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Prints a traceback, unless the caller has gone: load balancers reset connections, even without a request."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """Answers one request for each connection (HTTP/1.0)."""

    routes: Mapping[str, Callable[[], Reply]] = {}
    timeout = 5  # seconds for a caller to send its request

    def do_GET(self) -> None:
        """See `BaseHTTPRequestHandler`."""
        answer = self.routes.get(self.path.partition("?")[0])
        reply = answer() if answer else Reply(404, "text/plain", b"not found\n")
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Logs nothing: checks come every second."""
