"""A real HAProxy in front of servers, for tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import free_ports

SCHEMES = ("grpc", "http")
# Each line of the log: HTTP version, model's path, server, status, image's id.
_CONFIG = """
global
  log stdout format raw local0
defaults
  mode http
  log global
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  log-format "%HV %HP %s %ST %[capture.req.hdr(0)]"
"""
_FRONT = """
frontend {scheme}
  bind 127.0.0.1:{port}{h2}
  http-request capture req.hdr(x-sam3-image-id) len 80
{lines}
  default_backend {scheme}
backend {scheme}
  balance {balance}
{servers}
"""


@dataclass(frozen=True)
class Proxy:
    """A running HAProxy.

    Attributes:
        urls: its address by scheme, grpc and http.
    """

    urls: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]

    def lines(self) -> list[list[str]]:
        """One list for each request so far: HTTP's version, path, server, status, image's id or -."""
        lines = [line.split() for line in self.log.read_text().splitlines() if "/v2/" in line or "/inference" in line]
        return [line for line in lines if len(line) == 5]


@contextmanager
def run_haproxy(
    log: Path,
    servers: dict[str, Sequence[str]],
    *,
    balance: str = "roundrobin",
    frontend: str = "",
) -> Iterator[Proxy]:
    """Runs an HAProxy in its own process, without checks of the servers' health.

    Args:
        log: file for its log; its configuration is written beside it.
        servers: addresses of the servers by scheme, grpc and http.
        balance: how it chooses a server.
        frontend: more lines for its frontends.
    """
    binary = shutil.which("haproxy") or pytest.skip("needs haproxy")
    ports = dict(zip(servers, free_ports(len(servers)), strict=True))
    config = log.with_suffix(".cfg")
    config.write_text(_CONFIG + "".join(_front(s, ports[s], servers[s], balance, frontend) for s in servers))
    with log.open("wb") as output:
        process = subprocess.Popen([binary, "-db", "-f", str(config)], stdout=output, stderr=output)
    try:
        for port in ports.values():
            _wait_for(port, process)
        yield Proxy({scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}, log, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _front(scheme: str, port: int, addresses: Sequence[str], balance: str, lines: str) -> str:
    h2 = " proto h2" if scheme == "grpc" else ""
    servers = "\n".join(f"  server s{number} {address}{h2}" for number, address in enumerate(addresses))
    return _FRONT.format(scheme=scheme, port=port, h2=h2, balance=balance, lines=lines, servers=servers)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, "haproxy ended"
            assert time.monotonic() < deadline, "haproxy did not start"
            time.sleep(0.02)
