"""Decoding and resizing show up separately in Triton's metrics, whichever instance did them."""

from __future__ import annotations

import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from pictures import encoded, fresh_image
from PIL import Image
from sam3_server import TritonServer
from sam3_triton import Sam3Client

FIELDS = ("images", "decode_seconds", "resize_seconds")
IMAGES = 12


def totals(server: TritonServer) -> dict[str, float]:
    """The sums over the instances."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        name: sum(
            float(value) for value in re.findall(rf"^sam3_preprocess_{name}_total{{.*}} (\S+)$", text, re.MULTILINE)
        )
        for name in FIELDS
    }


def test_decode_and_resize_are_counted_apart(server: TritonServer) -> None:
    before = totals(server)
    with Sam3Client(server.grpc_url) as client, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda image: client.predict(image, points=[[5, 5]]), [fresh_image() for _ in range(IMAGES)]))
        # A JPEG 2000 takes half a second a megapixel to decode, but no longer to resize.
        slow = Image.effect_noise((1000, 1000), 60).convert("RGB")
        client.predict(encoded(slow, "JPEG2000"), points=[[5, 5]])
    deadline = time.monotonic() + 10
    while True:
        after = totals(server)
        grown = {name: after[name] - before[name] for name in FIELDS}
        if grown["images"] == IMAGES + 1 or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert grown["images"] == IMAGES + 1
    assert 0 < grown["resize_seconds"] < grown["decode_seconds"] < 60
