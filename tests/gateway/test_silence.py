"""The gateway in front of a Triton that never answers."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import requests
from pictures import fresh_image
from processes import run_gateway
from silent_triton import silent_triton
from urllib3.filepost import encode_multipart_formdata


def request_bytes(path: str = "/predict/mask") -> bytes:
    """A click, and for /v1/concepts a text, as an HTTP request."""
    fields = {"image": ("a.png", fresh_image()), "points": "[[1, 1]]", "texts": '["cup", "plate"]'}
    body, kind = encode_multipart_formdata(fields)
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def wait_until_idle(url: str) -> None:
    deadline = time.monotonic() + 30
    while "sam3_gateway_in_flight 0.0" not in requests.get(f"{url}/metrics", timeout=30).text:
        assert time.monotonic() < deadline, "the request of a disconnected caller is still in flight"
        time.sleep(0.01)


def test_a_caller_that_disconnects_cancels_its_call(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with silent_triton() as (triton, address), run_gateway(address, "--max-in-flight", "1", log=log) as url:
        came = triton.came  # the probe of /health
        for count, path in enumerate(("/predict/mask", "/v1/predict", "/v1/images", "/v1/concepts"), start=1):
            with connect(url) as caller:
                caller.sendall(request_bytes(path))
                triton.wait_for(came + count, triton.cancelled)
                # It occupies the only slot until it disconnects.
                busy = requests.post(f"{url}{path}", files={"image": b"x"}, data={"points": "[[1, 1]]"}, timeout=30)
                assert busy.status_code == 503
                assert busy.headers["retry-after"] == "1"
                assert busy.json()["detail"] == "too busy: 1 requests are in flight"
                cancelled = triton.cancelled
            triton.wait_for(came + count, cancelled + 1)
            wait_until_idle(url)  # Triton is notified shortly before the slot is free
    statuses = [json.loads(line)["status"] for line in log.read_text().splitlines() if "/predict/mask" in line]
    assert sorted(statuses) == [499, 503]


def test_a_request_that_takes_too_long_is_503(tmp_path: Path) -> None:
    with silent_triton() as (_, address), run_gateway(address, "--timeout-s", "0.5") as url:
        answer = requests.post(
            f"{url}/predict/mask", files={"image": fresh_image()}, data={"points": "[[1, 1]]"}, timeout=30
        )
        assert answer.status_code == 503
        assert "Deadline" in answer.json()["detail"] or "no answer" in answer.json()["detail"]
        assert requests.get(f"{url}/health/ready", timeout=30).status_code == 503
        assert requests.get(f"{url}/health/live", timeout=30).status_code == 200
