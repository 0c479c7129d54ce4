"""`make demo` and `make serve`: a photo and a click through gateway, ensemble and back, on this machine."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

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

REPOSITORY = Path("model_repository")
OUT = Path("out")
PHOTO = Path("tests/data/golden/coffee.png")
CLICK = (360, 290)  # x, y in pixels, on the spoon
GATEWAY_URL = f"http://{LOOPBACK}:{GATEWAY_PORT}"
_START_TIMEOUT_S = 60
# SAM 3 itself takes about a minute for the first click on two cores.
_CLICK_TIMEOUT_S = 600


def main(arguments: list[str] | None = None) -> int:
    """Runs the demonstration and returns its exit code: 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sam3_demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep serving until Ctrl-C")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    OUT.mkdir(exist_ok=True)
    try:
        check_free(LOOPBACK, GATEWAY_PORT, "the gateway needs it")
        print(f"Starting Triton and the gateway (logs: {OUT}/triton.log, {OUT}/gateway.log) ...", flush=True)
        with (
            (OUT / "triton.log").open("w") as log,
            TritonServer(REPOSITORY, log) as server,
            _gateway(server.grpc_url) as gateway,
        ):
            _click_twice()
            if options.stay:
                _stay(server, gateway)
    except KeyboardInterrupt:
        print("Stopped.")
    except (ServerError, httpx.HTTPError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _click_twice() -> None:
    photo = PHOTO.read_bytes()
    print(f"POST {GATEWAY_URL}/predict/mask: {PHOTO} with a click at {CLICK}")
    with httpx.Client(base_url=GATEWAY_URL, timeout=_CLICK_TIMEOUT_S) as gateway:
        for name, note in (("first", "the image is encoded"), ("second", "its embedding is cached")):
            started = time.monotonic()
            png = _post(gateway, photo)
            print(f"  {name} click: {1000 * (time.monotonic() - started):6.0f} ms   ({note})")
    (OUT / "mask.png").write_bytes(png)
    picture = open_image(photo)
    mask = np.asarray(open_image(png).convert("L")) > 0
    overlay(picture, mask, [CLICK]).save(OUT / "overlay.png")
    print(f"Wrote {OUT}/mask.png and {OUT}/overlay.png: {mask.mean():.0%} of the photo is in the mask.")
    checkpoint: str = json.loads((REPOSITORY / REPORT).read_text())["checkpoint"]["source"]
    if checkpoint == CHECKPOINT.name:
        print("This is a small demonstration model: it demonstrates the request path, not SAM 3's mask quality.")
    else:
        print(f"The weights are those of {checkpoint}.")


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
        # Its own session: a Ctrl-C is ours to pass on, after the work in hand.
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
        f"Click: {GATEWAY_URL}/\n"
        "Or try:\n"
        f"  curl -F image=@{PHOTO} -F 'points=[[{CLICK[0]}, {CLICK[1]}]]' {GATEWAY_URL}/predict/mask -o mask.png\n"
        "Stop it with Ctrl-C.",
        flush=True,
    )
    supervise(server, lambda line: print(line, flush=True), check_gateway)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
