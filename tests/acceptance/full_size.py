"""SAM 3's own size, from a checkpoint to a mask: `make full-size-check`.

Writes a file in the layout of `sam3.pt` with seeded random weights, exports it by the command that users type, serves
it, clicks, and compares the mask with that of the PyTorch modules. About twenty minutes on two cores, 18 GB of memory,
10 GB of disk. What it writes stays in `out/full-size`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import numpy as np
import psutil
from image_preprocess import decode, to_network_pixels
from mask_postprocess import to_mask
from repository import copy_repository, free_ports
from sam3_export.artifacts import run_module
from sam3_export.checkpoint import load
from sam3_export.components import image_encoder, mask_decoder
from sam3_export.components.click_prompts import FOREGROUND, PADDING
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from sam3_server import Ports, TritonServer
from sam3_triton import Prediction, Sam3Client

from benchmarks.full_size import write_checkpoint

FOLDER = Path("out") / "full-size"
PHOTO = golden.FOLDER / "coffee.png"
CLICK = (360, 290)
# torchscript-fp16 needs a GPU at this size.
FORMATS = ("onnx", "onnx-fp16", "onnx-int8", "torchscript")
MINIMUM_IOU = 0.999
Figures = dict[str, Any]


def test_the_mask_of_the_served_model_is_that_of_pytorch(keep: Callable) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    repository, checkpoint = copy_repository(FOLDER), FOLDER / "sam3.pt"
    print(f"\nWriting {checkpoint} (seeded random weights) ...", flush=True)
    write_checkpoint(checkpoint)
    figures = export(checkpoint, repository)
    print("The answer of the PyTorch modules to a click (about a minute) ...", flush=True)
    logits, mask = expected(checkpoint)
    print(f"Serving it (log: {FOLDER}/triton.log) ...", flush=True)
    answer, seconds = serve_and_click(repository)
    found = answer.masks[0]
    figures |= seconds
    figures |= {
        "largest_logit_difference": float(np.abs(answer.low_res_logits[0] - logits.clip(-32, 32)).max()),
        "share_of_the_photo_in_the_mask": round(float(found.mean()), 3),
        "iou_with_pytorch": round(float((found & mask).sum() / max(1, (found | mask).sum())), 5),
    }
    keep("full_size", figures)
    # A mask of nothing, or of the whole photo, would match too easily.
    assert 0.01 < figures["share_of_the_photo_in_the_mask"] < 0.99
    assert figures["iou_with_pytorch"] >= MINIMUM_IOU


def export(checkpoint: Path, repository: Path) -> Figures:
    """Runs sam3-export in a separate process and samples its memory."""
    command = [sys.executable, "-m", "sam3_export.cli", "--checkpoint", str(checkpoint)]
    started, peak = time.monotonic(), 0
    process = subprocess.Popen([*command, "--repository", str(repository), "--formats", ",".join(FORMATS)])
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    assert process.wait() == 0, "the export failed"
    report = json.loads((repository / "sam3" / "exports" / "current" / "export.json").read_text())
    return {
        "export_seconds": round(time.monotonic() - started),
        "export_peak_gb": round(peak / 1e9, 1),
        "artifacts": {name: artifact(entry) for name, entry in report["artifacts"].items()},
    }


def artifact(entry: dict[str, Any]) -> Figures:
    """The figures of an artifact in the export's report."""
    return {
        "megabytes": round(entry["bytes"] / 1e6),
        "export_seconds": round(entry["export_seconds"]),
        "check_seconds": round(entry["check_seconds"]),
        "largest_difference_at_the_gate": max(
            value for case in entry["differences"].values() for value in case.values()
        ),
    }


def expected(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """The answer of the PyTorch modules to the click: logits [h, w] and the mask, bool [H, W]."""
    loaded = load(str(checkpoint))
    photo = decode(PHOTO.read_bytes())
    pixels = to_network_pixels(photo, loaded.architecture.image_size).copy()  # Pillow's own array is read-only
    features = run_module(
        ImageEncoder(loaded.model).eval(), image_encoder.spec(loaded.architecture), {"PIXELS": pixels}
    )
    side = loaded.architecture.low_res_size
    prompt = {
        "POINT_COORDS": np.array([[[np.array(CLICK) / photo.size, (0, 0)]]], np.float32),
        "POINT_LABELS": np.array([[[FOREGROUND, PADDING]]], np.int32),
        "MASK_INPUT": np.zeros((1, 1, side, side), np.float32),
        "HAS_MASK_INPUT": np.array([[False]]),
        "MASK_TOKENS": np.array([[0]], np.int32),
    }
    decoder = MaskDecoder(loaded.model).eval()
    logits = run_module(decoder, mask_decoder.spec(loaded.architecture), {**features, **prompt})["MASK_LOGITS"][0, 0, 0]
    return logits, to_mask(logits, photo.size[::-1]) > 0


def serve_and_click(repository: Path) -> tuple[Prediction, Figures]:
    """The answer of the served export to the click, and the seconds that start and clicks took."""
    started = time.monotonic()
    with (
        (FOLDER / "triton.log").open("w") as log,
        TritonServer(repository, log, ports=Ports(*free_ports(3))) as server,
        Sam3Client(server.grpc_url, timeout_s=600) as client,
    ):
        ready = time.monotonic() - started
        seconds = []
        for _ in range(6):
            started = time.monotonic()
            answer = client.predict(PHOTO, points=[CLICK])
            seconds.append(time.monotonic() - started)
    figures = {
        "ready_seconds": round(ready),
        "first_click_seconds": round(seconds[0], 1),
        "warm_click_seconds": round(float(np.median(seconds[1:])), 2),
    }
    return answer, figures
