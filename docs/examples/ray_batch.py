"""Segments a folder of photos with Ray Data: one click on each, several clients at a time.

    python docs/examples/ray_batch.py photos/ masks/ --url localhost:8011

PHOTOS and OUT are paths or URLs such as s3://bucket/photos. OUT gets Parquet files with the columns path, mask (a PNG
file), score and error. Needs `pip install './client' 'ray[data]'`.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import ray
from PIL import Image, UnidentifiedImageError
from sam3_triton import InvalidInputError, Sam3Client


class Segment:
    """Runs in an actor, which keeps its client's connection for all its photos."""

    def __init__(self, url: str) -> None:
        self._client = Sam3Client(url)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = {"path": row["path"], "mask": b"", "score": 0.0, "error": ""}
        try:
            answer = self._client.predict(row["bytes"], points=[middle_of(row["bytes"])])
        except (InvalidInputError, UnidentifiedImageError) as error:
            # Such a photo does not end the job. Other errors do: the server is at fault.
            return {**result, "error": str(error)}
        return {**result, "mask": answer.mask_pngs[0], "score": float(answer.scores[0])}


def middle_of(photo: bytes) -> tuple[float, float]:
    """The prompt of this example: replace it by clicks, boxes or texts of your own."""
    width, height = Image.open(io.BytesIO(photo)).size
    return width / 2, height / 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment a folder of photos with Ray Data.")
    parser.add_argument("photos", metavar="PHOTOS")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--url", default="localhost:8011", help="Triton's address, or its proxy's")
    parser.add_argument("--actors", type=int, default=4, help="photos in flight")
    options = parser.parse_args()
    photos = ray.data.read_binary_files(options.photos, include_paths=True)
    # The actors wait for the server most of the time, so they share cores.
    actors = ray.data.ActorPoolStrategy(size=options.actors)
    masks = photos.map(Segment, fn_constructor_args=(options.url,), compute=actors, num_cpus=0.1)
    masks.write_parquet(options.out)


if __name__ == "__main__":
    main()
