"""The proxy's process."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from sam3_server.errors import ServerError
from sam3_server.proxy.config import POLICY

_SERVER_STATUS = re.compile(r'haproxy_server_status\{proxy="\w+",server="(?P<server>[^"]+)",state="UP"\} (?P<up>[01])')
_TIMEOUT_S = 2.0


def find() -> str:
    """The path of HAProxy.

    Raises:
        ServerError: it is not installed.
    """
    if path := shutil.which("haproxy"):
        return path
    raise ServerError("several replicas need HAProxy 2.4 or newer on the PATH: apt-get install haproxy")


class Proxy:
    """An HAProxy; it can be started again after it has ended."""

    def __init__(self, binary: str, config: Path, metrics_socket: Path, log: IO[str]) -> None:
        """
        Args:
            config: the file that is loaded after the policy.
            metrics_socket: the Unix socket on which that file has the proxy serve its metrics.
            log: receives the output.
        """
        self._command = [binary, "-db", "-f", str(POLICY), "-f", str(config)]
        self._metrics_socket = metrics_socket
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the process, and returns at once."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only the fleet, which then stops the proxy
        )
        threading.Thread(target=self._pass_log_on, args=(self._process,), daemon=True).start()

    def exit_code(self) -> int | None:
        """The exit code of a process that has ended."""
        return self._process.poll() if self._process else None

    def metrics(self) -> str:
        """The proxy's metrics, in Prometheus' text format.

        Raises:
            OSError: no answer.
        """
        connection = _UnixConnection(self._metrics_socket)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"the proxy's metrics: {error}") from error
        finally:
            connection.close()

    def has_up(self, server: str) -> bool:
        """Whether the proxy sends requests of every kind to a server."""
        with suppress(OSError):
            states = [match["up"] for match in _SERVER_STATUS.finditer(self.metrics()) if match["server"] == server]
            return bool(states) and set(states) == {"1"}
        return False

    def stop(self) -> None:
        """Asks the process to end after running requests; it accepts no more connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Ends the process now."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _pass_log_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._log.write(f"[proxy] {line}")
            self._log.flush()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
