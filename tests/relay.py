"""A TCP relay that breaks connections, for tests of what follows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 16 * 1024


class Relay:
    """Passes connections on to a server.

    Attributes:
        address: host and port at which it listens.
        breaks: connections that it broke.
        connections: connections that it has accepted.
        open: those of them that the caller has not closed.
    """

    def __init__(self, server: str) -> None:
        host, port = server.split(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._left: tuple[int, bool] | None = None
        self._lock = threading.Lock()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.breaks = 0
        self.connections = 0
        self.open = 0
        self._silent_until = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def break_once(self, after: int, *, uploads: bool = False) -> None:
        """Breaks the next connection that has passed on this many bytes from now on, and no other after it.

        Args:
            after: bytes of answers; 0 breaks at the first byte.
            uploads: count the bytes of requests instead.
        """
        with self._lock:
            self._left = (after, uploads)

    def silence(self) -> None:
        """Passes on nothing more on the connections that it has, and keeps them open. Later ones work."""
        with self._lock:
            self._silent_until = self.connections

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self.open += 1
                try:
                    far = socket.create_connection(self._server)
                except OSError:
                    near.close()
                    continue
                for source, target, upload in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target, upload, self.connections), daemon=True
                    ).start()
                # The threads close both ends. A caller whose peer only shuts down waits for ever if its window is full.
                del near, far, source, target

    def _pass_on(self, source: socket.socket, target: socket.socket, upload: bool, number: int) -> None:
        try:
            while piece := source.recv(_PIECE):
                if number <= self._silent_until:
                    continue
                end = self._break_at(len(piece), upload)
                target.sendall(piece[:end])
                if end is not None:
                    _shut(source, target)
                    return
            if upload:
                self.open -= 1
            target.shutdown(socket.SHUT_WR)
        except OSError:  # one end was reset; without this, the other would wait for it
            _shut(source, target)

    def _break_at(self, size: int, upload: bool) -> int | None:
        with self._lock:
            if self._left is None or self._left[1] != upload:
                return None
            left = self._left[0]
            if left >= size:
                self._left = (left - size, upload)
                return None
            self._left = None
            self.breaks += 1
            return left


def _shut(*connections: socket.socket) -> None:
    for each in connections:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(server: str) -> Iterator[Relay]:
    """Runs a `Relay` in front of a server, `host:port`."""
    running = Relay(server)
    try:
        yield running
    finally:
        running.close()
