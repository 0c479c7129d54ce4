"""Does system shared memory pay for images, where client and server share a host? `python benchmarks/shared_memory.py`.

Sends the same image in turns over gRPC and through a shared-memory region that was registered once, the copy into it
included, to a running server that has it cached; so that nothing but the way of the bytes differs.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import serialize_byte_tensor, shared_memory

REGION = "sam3_benchmark"


def picture(side: int) -> bytes:
    """A PNG of noise: 3 * side * side bytes, and a few."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def measure(client: triton.InferenceServerClient, data: bytes, rounds: int) -> dict[str, float]:
    """Medians in milliseconds of both ways, and what a first click on the image takes beside them."""
    array = np.array([data], np.object_)
    outputs = [triton.InferRequestedOutput("IMAGE_ID")]
    size = len(serialize_byte_tensor(array).item())  # 4 bytes of length, then the file
    region = shared_memory.create_shared_memory_region(REGION, f"/{REGION}", size)
    client.register_system_shared_memory(REGION, f"/{REGION}", size)

    def over_grpc() -> None:
        tensor = triton.InferInput("IMAGE", [1], "BYTES")
        tensor.set_data_from_numpy(array)
        client.infer("sam3", [tensor], outputs=outputs)

    def through_memory() -> None:
        shared_memory.set_shared_memory_region(region, [serialize_byte_tensor(array)])
        tensor = triton.InferInput("IMAGE", [1], "BYTES")
        tensor.set_shared_memory(REGION, size)
        client.infer("sam3", [tensor], outputs=outputs)

    def milliseconds(way: Callable[[], None]) -> float:
        started = time.perf_counter()
        way()
        return 1000 * (time.perf_counter() - started)

    try:
        first = milliseconds(over_grpc)
        pairs = [(milliseconds(over_grpc), milliseconds(through_memory)) for _ in range(rounds)]
    finally:
        client.unregister_system_shared_memory(REGION)
        shared_memory.destroy_shared_memory_region(region)
    grpc, memory = (statistics.median(way) for way in zip(*pairs, strict=True))
    return {
        "megabytes": round(len(data) / 1e6, 1),
        "first_click_ms": round(first, 1),
        "grpc_ms": round(grpc, 2),
        "shared_memory_ms": round(memory, 2),
        "ratio": round(memory / grpc, 2),
    }


def main() -> None:
    """Prints a line of JSON for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="localhost:8011", help="Triton's gRPC endpoint (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    client = triton.InferenceServerClient(options.url)
    for side in (400, 1200, 2500):
        print(json.dumps(measure(client, picture(side), options.rounds)), flush=True)


if __name__ == "__main__":
    main()
