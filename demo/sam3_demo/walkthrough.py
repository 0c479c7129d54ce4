"""The walk-through of `make demo`: clicks on a photo through the gateway, finds concepts, and saves both answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from sam3_export.demo import CHECKPOINT
from sam3_gateway.settings import DEFAULT_PORT as GATEWAY_PORT
from sam3_server import ServerError, TritonServer
from sam3_server.layout import REPORT
from sam3_server.ports import LOOPBACK, check_free
from sam3_server.supervisor import supervise
from sam3_triton import overlay
from sam3_triton.masks import open_image

from sam3_demo.finding import find_twice

REPOSITORY = Path("model_repository")
OUT = Path("out")
PHOTO = Path("tests/data/golden/coffee.png")
CLICK = (360, 290)  # x, y in pixels, on the spoon
GATEWAY_URL = f"http://{LOOPBACK}:{GATEWAY_PORT}"
_START_TIMEOUT_S = 60
# SAM 3 itself takes about a minute for the first click on two cores.
_CLICK_TIMEOUT_S = 600


def run(stay: bool) -> None:
    """Starts Triton and the gateway, clicks and finds, and stops them; with `stay`, keeps serving until interrupted.

    Raises:
        ServerError: Triton or the gateway does not start, stops by itself, or answers with an error.
        httpx.HTTPError: the gateway does not answer.
        Sam3Error: Triton does not answer, or with an error.
    """
    OUT.mkdir(exist_ok=True)
    check_free(LOOPBACK, GATEWAY_PORT, "the gateway needs it")
    print(f"Starting Triton and the gateway (logs: {OUT}/triton.log, {OUT}/gateway.log) ...", flush=True)
    with (
        (OUT / "triton.log").open("w") as log,
        TritonServer(REPOSITORY, log) as server,
        _gateway(server.grpc_url) as gateway,
    ):
        click_twice(GATEWAY_URL, OUT)
        find_twice(server.grpc_url, REPOSITORY, OUT)
        print(about_the_weights(REPOSITORY))
        if stay:
            _stay(server, gateway)


def click_twice(gateway_url: str, out: Path) -> None:
    """Posts the photo with the click twice, prints how long each took, and writes mask.png and overlay.png into `out`.

    Raises:
        ServerError: the gateway answered with an error.
        httpx.HTTPError: the gateway did not answer.
    """
    photo = PHOTO.read_bytes()
    print(f"POST {gateway_url}/predict/mask: {PHOTO} with a click at {CLICK}")
    with httpx.Client(base_url=gateway_url, timeout=_CLICK_TIMEOUT_S) as gateway:
        for name, note in (("first", "the image is encoded"), ("second", "its embedding is cached")):
            started = time.monotonic()
            png = _post(gateway, photo)
            print(f"  {name} click: {1000 * (time.monotonic() - started):6.0f} ms   ({note})")
    (out / "mask.png").write_bytes(png)
    picture = open_image(photo)
    mask = np.asarray(open_image(png).convert("L")) > 0
    overlay(picture, mask, [CLICK]).save(out / "overlay.png")
    print(f"Wrote {out}/mask.png and {out}/overlay.png: {mask.mean():.0%} of the photo is in the mask.")


def about_the_weights(repository: Path) -> str:
    """Says whose weights the export in a repository has."""
    report = json.loads((repository / REPORT).read_text())
    checkpoint: str = report["checkpoint"]["source"]
    if checkpoint == CHECKPOINT.name:
        return "This is a small demonstration model: it demonstrates the request path, not SAM 3's mask quality."
    return f"The weights are from {checkpoint}."


def _post(gateway: httpx.Client, photo: bytes) -> bytes:
    files = {"image": (PHOTO.name, photo, "image/png")}
    answer = gateway.post("/predict/mask", files=files, data={"points": json.dumps([CLICK])})
    if answer.status_code != httpx.codes.OK:
        raise ServerError(f"the gateway answered {answer.status_code}: {answer.text}")
    return answer.content


@contextmanager
def _gateway(triton_url: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "sam3_gateway.cli", "--port", str(GATEWAY_PORT), "--triton", triton_url]
    with (OUT / "gateway.log").open("w") as log:
        # A session of its own, so that Ctrl-C does not stop the gateway before this process has finished its request.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait_for_gateway(process)
            yield process
        finally:
            process.terminate()
            process.wait()


def _wait_for_gateway(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{GATEWAY_URL}/health", timeout=10).json()["model_loaded"]:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise ServerError(f"the gateway did not start; see {OUT}/gateway.log")


def _stay(server: TritonServer, gateway: subprocess.Popen[bytes]) -> None:
    def check_gateway() -> None:
        if (code := gateway.poll()) is not None:
            raise ServerError(f"the gateway ended by itself with exit code {code}; see {OUT}/gateway.log")

    print(
        f"\nServing: gateway {GATEWAY_URL}, Triton gRPC {server.grpc_url}, HTTP {server.http_url}, "
        f"metrics {server.metrics_url}\n"
        f"Open {GATEWAY_URL}/ and click, or run:\n"
        f"  curl -F image=@{PHOTO} -F 'points=[[{CLICK[0]}, {CLICK[1]}]]' {GATEWAY_URL}/predict/mask -o mask.png\n"
        "Stop it with Ctrl-C.",
        flush=True,
    )
    supervise(server, lambda line: print(line, flush=True), check_gateway)
