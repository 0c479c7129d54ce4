"""Connections that do not complete their requests."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest
import requests
from pictures import fresh_image
from processes import run_gateway
from repository import free_ports
from urllib3.filepost import encode_multipart_formdata

HALF = b"POST /predict/mask HTTP/1.1\r\nHost: gateway\r\nX-Half: "
BOUND_S = 1.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with run_gateway(nobody, "--header-timeout-s", str(BOUND_S), "--max-connections", "210") as url:
        yield url


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_a_header_is_dropped_even_if_bytes_keep_coming(url: str) -> None:
    half_open = [connect(url) for _ in range(200)]
    for number, connection in enumerate(half_open):
        connection.sendall(HALF[: number % len(HALF)])
    dripping = half_open[::20]
    gone, deadline = 0, time.monotonic() + 30
    while gone < len(dripping):
        assert time.monotonic() < deadline, "a connection that sends a byte now and then is still open"
        time.sleep(BOUND_S / 10)
        gone = 0
        for connection in dripping:
            try:
                connection.sendall(b"x")
            except OSError:
                gone += 1
    assert all(is_closed(connection) for connection in half_open if connection not in dripping)
    assert requests.get(f"{url}/health/live", timeout=30).status_code == 200


def test_half_a_header_after_a_request_is_dropped(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(HALF)
        while connection.recv(65536):  # the rest of the answer
            pass


def test_a_connection_is_kept_between_requests(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    for _ in range(2):
        connection.request("GET", "/health/live")
        assert connection.getresponse().read()
        connection.auto_open = 0  # type: ignore[assignment]  # a new connection would be an error
        time.sleep(BOUND_S * 1.5)
    connection.close()


def test_a_slow_upload_is_no_slow_header(url: str) -> None:
    body, kind = encode_multipart_formdata({"image": ("a.png", fresh_image()), "points": "[[1, 1]]"})
    headers = f"Host: gateway\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(f"POST /predict/mask HTTP/1.1\r\n{headers}".encode() + body[:-1000])
        time.sleep(BOUND_S * 2)
        connection.sendall(body[-1000:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 503")  # there is no Triton


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with run_gateway(nobody, "--header-timeout-s", "600", "--max-connections", "5") as url:
        kept = [connect(url) for _ in range(5)]
        with connect(url) as refused:
            assert is_closed(refused)
        kept[0].sendall(b"GET /health/live HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        assert kept[0].recv(65536).startswith(b"HTTP/1.1 200")
        while kept[0].recv(65536):
            pass
        assert requests.get(f"{url}/health/live", timeout=30).status_code == 200
