"""The pipeline of sam3_preprocess_dali. Triton's DALI backend imports it at its start."""

from __future__ import annotations

import json
from pathlib import Path

from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.triton import autoserialize

# Beside this model in the repository; written by sam3-export.
_REPORT = Path(__file__).parents[2] / "sam3" / "exports" / "current" / "export.json"


@autoserialize
@pipeline_def(batch_size=1, num_threads=4, device_id=0)
def preprocess():
    """Squashes to a square by a triangle filter as wide as the scale, and rounds to grey levels."""
    side = json.loads(_REPORT.read_text())["image_size"]
    encoded = fn.external_source(device="cpu", name="IMAGE_BYTES", dtype=types.UINT8, ndim=1)
    # EXIF orientation is not applied: the mask belongs to the pixels as stored.
    image = fn.decoders.image(encoded, device="mixed", output_type=types.RGB, adjust_orientation=False)
    pixels = fn.resize(
        image, size=[side, side], interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.UINT8, name="PIXELS"
    )
    shape = fn.peek_image_shape(encoded, adjust_orientation=False)
    return pixels, fn.cast(shape[:2], dtype=types.INT32, name="ORIGINAL_SIZE")
