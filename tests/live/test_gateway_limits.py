"""The gateway's limits, log and metrics."""

from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import golden
import pytest
import requests
from pictures import fresh_image
from PIL import Image
from processes import run_gateway

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()
LIMITS = {"--max-body-bytes": 600_000, "--max-pixels": 300_000, "--max-points": 3, "--max-in-flight": 2}


@pytest.fixture(scope="module")
def limited(server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A gateway with narrow limits, and its log."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    flags = [part for name, value in LIMITS.items() for part in (name, str(value))]
    with run_gateway(server.grpc_url, *flags, "--upload-timeout-s", "1", log=log) as url:
        yield url, log


def click(url: str, image: bytes = PHOTO, points: str = "[[300, 200]]", **headers: str) -> requests.Response:
    return requests.post(
        f"{url}/predict/mask", files={"image": image}, data={"points": points}, headers=headers, timeout=60
    )


def refused(answer: requests.Response, status: int, detail: str) -> None:
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


@pytest.fixture(autouse=True)
def _the_next_request_works(limited) -> Iterator[None]:
    yield
    assert click(limited[0]).status_code == 200


def test_a_body_that_is_too_large(limited) -> None:
    refused(click(limited[0], PHOTO + bytes(200_000)), 413, "too large: at most 600000 bytes are accepted")


def test_a_caller_that_sends_everything_before_it_reads_gets_its_answer(limited) -> None:
    with connect(limited[0]) as caller:
        caller.sendall(b"POST /predict/mask HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        caller.sendall(bytes(30_000_000))
        time.sleep(0.2)  # time to notice a closed connection
        assert caller.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_that_is_too_large(limited) -> None:
    pieces = (bytes(100_000) for _ in range(50))
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(f"{limited[0]}/predict/mask", data=pieces, headers=form, timeout=60)
    refused(answer, 413, "the request is too large")


def test_an_image_of_too_many_pixels(limited) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    refused(click(limited[0], buffer.getvalue()), 413, "the image has 9000 x 9000 pixels; at most 300000 are accepted")


def test_an_unknown_format(limited) -> None:
    refused(click(limited[0], b"GIF? no."), 415, "it is none of PNG, JPEG")


def test_too_many_points(limited) -> None:
    refused(
        click(limited[0], points="[[1, 1], [2, 2], [3, 3], [4, 4]]"), 400, "too many points: 4; at most 3 are accepted"
    )


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def stalled(url: str) -> socket.socket:
    """A caller that announces a body but does not send all of it."""
    caller = connect(url)
    caller.sendall(b"POST /predict/mask HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n")
    caller.sendall(b"Content-Length: 1000\r\n\r\nsome")
    return caller


def test_a_stalled_caller_gets_408(limited) -> None:
    with stalled(limited[0]) as caller:
        answer = b""
        while b"}" not in answer:
            answer += caller.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 1 s" in answer


def test_too_many_requests_in_flight(limited) -> None:
    with ExitStack() as callers:
        for _ in range(LIMITS["--max-in-flight"]):
            callers.enter_context(stalled(limited[0]))
        time.sleep(0.2)
        answer = click(limited[0])
        assert requests.get(f"{limited[0]}/health", timeout=30).status_code == 200
    refused(answer, 503, "too busy: 2 requests are in flight")
    assert answer.headers["retry-after"] == "1"
    time.sleep(0.2)


def logged(log: Path, request_id: str) -> dict[str, Any]:
    """The line of a request, which is written after its answer has been sent."""
    deadline = time.monotonic() + 30
    while not (lines := [line for line in log.read_text().splitlines() if request_id in line]):
        assert time.monotonic() < deadline, "the request was not logged"
        time.sleep(0.01)
    return json.loads(lines[0])


def test_each_request_is_logged(limited) -> None:
    url, log = limited
    answer = click(url, **{"X-Request-ID": "my-request.1"})
    assert answer.headers["x-request-id"] == "my-request.1"
    stages = re.findall(r"(\w+);dur=[\d.]+", answer.headers["server-timing"])
    assert stages == ["read", "inspect", "triton", "total"]
    line = logged(log, "my-request.1")
    assert line["status"] == 200
    assert (line["method"], line["path"], line["client"]) == ("POST", "/predict/mask", "127.0.0.1")
    assert line["image_id"] == answer.headers["x-image-id"]
    assert line["cache_hit"] is True
    assert answer.headers["x-cache-hit"] == "true"
    assert list(line["ms"]) == stages
    other = click(url, **{"X-Request-ID": 'not "safe"'})
    assert re.fullmatch("[0-9a-f]{32}", other.headers["x-request-id"])


def test_the_metrics_count(limited) -> None:
    url, _ = limited

    def counts() -> dict[str, float]:
        text = requests.get(f"{url}/metrics", timeout=30).text
        return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}

    before = counts()
    click(url, fresh_image(), "[[5, 5]]")
    click(url)
    click(url, b"no image")
    click(url, bytes(1_000_000))
    requests.get(f"{url}/nowhere/{time.time()}", timeout=30)
    after = counts()
    names = (
        'sam3_gateway_requests_total{path="/predict/mask",status="200"}',
        'sam3_gateway_requests_total{path="/predict/mask",status="415"}',
        'sam3_gateway_images_total{cached="false"}',
        'sam3_gateway_images_total{cached="true"}',
        'sam3_gateway_stage_seconds_count{stage="triton"}',
        'sam3_gateway_requests_total{path="other",status="404"}',
        'sam3_gateway_requests_total{path="/predict/mask",status="413"}',
    )
    assert [after[name] - before.get(name, 0) for name in names] == [2, 1, 1, 1, 2, 1, 1]
    assert after["sam3_gateway_in_flight"] == 0
    assert not [name for name in after if "nowhere" in name]


def test_the_key_is_required_if_it_is_set(server) -> None:
    with run_gateway(server.grpc_url, SAM3_GATEWAY_API_KEY="open sesame") as url:
        refused(click(url), 401, "the API key in the header X-API-Key is missing")
        refused(click(url, **{"X-API-Key": "open"}), 401, "the API key in the header X-API-Key is wrong")
        assert click(url, **{"X-API-Key": "open sesame"}).status_code == 200
        assert requests.get(f"{url}/health/ready", timeout=30).status_code == 200
        document = requests.get(f"{url}/openapi.json", timeout=30).json()
        assert document["paths"]["/predict/mask"]["post"]["security"] == [{"key": []}]


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [("*", "*"), ("https://a.example", "https://a.example"), ("https://b.example", None), ("", None)],
)
def test_only_pages_of_the_allowed_origins_may_call(server, setting: str, allowed: str | None) -> None:
    with run_gateway(server.grpc_url, "--cors-origins", setting) as url:
        answer = click(url, Origin="https://a.example")
        assert answer.headers.get("access-control-allow-origin") == allowed
        refusal = click(url, b"no image", Origin="https://a.example")
        assert refusal.headers.get("access-control-allow-origin") == allowed
