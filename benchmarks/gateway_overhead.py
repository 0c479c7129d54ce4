"""What the gateway adds to a warm click: `python benchmarks/gateway_overhead.py`, beside `make serve`.

The same clicks in turns through `Sam3Client` over gRPC, and posted to the gateway, photo and all, as callers do.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import requests
from sam3_triton import Sam3Client

PHOTO = Path("tests/data/golden/coffee.png")
SIZE = (600, 400)


def milliseconds(click: Callable[[list[int]], None], point: list[int]) -> float:
    """How long one click takes."""
    started = time.perf_counter()
    click(point)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Prints a line of JSON: medians in milliseconds, their difference and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", default="localhost:8011", help="Triton's gRPC endpoint (default: %(default)s)")
    parser.add_argument("--gateway", default="http://localhost:8001", help="default: %(default)s")
    parser.add_argument("--clicks", type=int, default=400, help="each way (default: %(default)s)")
    options = parser.parse_args()
    data = PHOTO.read_bytes()
    client, session = Sam3Client(options.triton), requests.Session()

    def by_client(point: list[int]) -> None:
        client.predict(data, points=[point])

    def by_gateway(point: list[int]) -> None:
        files = {"image": (PHOTO.name, data)}
        session.post(f"{options.gateway}/predict/mask", files=files, data={"points": str([point])}).raise_for_status()

    rng = random.Random(0)
    points = [[rng.randrange(side) for side in SIZE] for _ in range(options.clicks)]
    by_client(points[0])
    pairs = [(milliseconds(by_client, point), milliseconds(by_gateway, point)) for point in points]
    client_ms, gateway_ms = (statistics.median(way) for way in zip(*pairs, strict=True))
    figures = {
        "clicks_each": options.clicks,
        "client_ms": round(client_ms, 2),
        "gateway_ms": round(gateway_ms, 2),
        "added_ms": round(gateway_ms - client_ms, 2),
        "ratio": round(gateway_ms / client_ms, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
