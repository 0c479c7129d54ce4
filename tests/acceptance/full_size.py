"""SAM 3's own size, from a checkpoint to a mask: `make full-size-check`.

Writes a file in the layout of `sam3.pt` with seeded random weights, exports it by the command that users type, serves
it, clicks, finds instances of a text, and compares the masks with those of the PyTorch modules. About forty minutes on
two cores, 16 GB of memory, 20 GB of disk. What it writes stays in `out/full-size`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import golden
import numpy as np
import psutil
from binary_masks import to_binary
from clip_tokens import ClipTokenizer
from image_preprocess import decode, to_network_pixels
from mask_postprocess import to_mask
from pictures import fresh_image
from repository import copy_repository, formats_here, free_ports
from sam3_export.artifacts import run_module
from sam3_export.checkpoint import Checkpoint, load
from sam3_export.components import Component, concept_detector, image_encoder, mask_decoder, text_encoder
from sam3_export.components.box_examples import EMPTY
from sam3_export.components.click_prompts import FOREGROUND, PADDING
from sam3_export.spec import Arrays
from sam3_server import Ports, TritonServer
from sam3_triton import Instances, Prediction, Sam3Client

from benchmarks.first_click import encoder_peak_bytes
from benchmarks.full_size import FULL_SIZE_CONCEPTS, write_checkpoint

FOLDER = Path("out") / "full-size"
PHOTO = golden.FOLDER / "coffee.png"
CLICK = (360, 290)
PARAMETERS = 850_000_000
MINIMUM_IOU = 0.999
TEXT = "a red coffee cup"
# Random weights give no score above the usual threshold.
THRESHOLD, INSTANCES = 0.0, 5
# Random masks are noise with borders everywhere, and an instance may change places with an equally good one.
SCORE_TOLERANCE, BOX_TOLERANCE, MINIMUM_INSTANCE_IOU = 0.005, 0.005, 0.98
# A wrong setting of ONNX Runtime's memory shows from the second image on, and doubles it; see docs/full-size.md.
IMAGES, MAXIMUM_ENCODER_GB = 5, 5.0
Figures = dict[str, Any]
Answer = TypeVar("Answer")


def test_the_mask_of_the_served_model_is_that_of_pytorch(keep: Callable) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    repository, checkpoint = copy_repository(FOLDER), FOLDER / "sam3.pt"
    print(f"\nWriting {checkpoint} (seeded random weights) ...", flush=True)
    write_checkpoint(checkpoint, FULL_SIZE_CONCEPTS)
    figures = export(checkpoint, repository)
    print("The answers of the PyTorch modules to a click and a text (two minutes) ...", flush=True)
    logits, mask, instances = expected(checkpoint)
    print(f"Serving it (log: {FOLDER}/triton.log) ...", flush=True)
    answer, concept, seconds = serve_and_ask(repository)
    found = answer.masks[0]
    figures |= seconds
    figures |= {
        "largest_logit_difference": float(np.abs(answer.low_res_logits[0] - logits.clip(-32, 32)).max()),
        "share_of_the_photo_in_the_mask": round(float(found.mean()), 3),
        "iou_with_pytorch": round(golden.iou(found, mask), 5),
        **compared(concept, instances),
    }
    keep("full_size", figures)
    # A mask of nothing, or of the whole photo, would match too easily.
    assert 0.01 < figures["share_of_the_photo_in_the_mask"] < 0.99
    assert figures["iou_with_pytorch"] >= MINIMUM_IOU
    assert figures["largest_score_difference"] <= SCORE_TOLERANCE
    assert figures["largest_box_difference"] <= BOX_TOLERANCE
    assert figures["lowest_instance_iou"] >= MINIMUM_INSTANCE_IOU
    assert figures["encoder_process_gb"][-1] <= MAXIMUM_ENCODER_GB


def export(checkpoint: Path, repository: Path) -> Figures:
    """Runs sam3-export in a separate process and samples its memory."""
    command = [
        sys.executable,
        "-m",
        "sam3_export.cli",
        "--checkpoint",
        str(checkpoint),
        "--repository",
        str(repository),
    ]
    started, peak = time.monotonic(), 0
    process = subprocess.Popen([*command, "--formats", ",".join(formats_here(PARAMETERS))])
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


def expected(checkpoint: Path) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """The answers of the PyTorch modules: logits [h, w] and the mask, bool [H, W], of the click; the detector's."""
    loaded = load(str(checkpoint))
    photo = decode(PHOTO.read_bytes())
    pixels = to_network_pixels(photo, loaded.architecture.image_size).copy()  # the array itself is read-only
    features = run(loaded, image_encoder.COMPONENT, {"PIXELS": pixels})
    side = loaded.architecture.low_res_size
    prompt = {
        "POINT_COORDS": np.array([[[np.array(CLICK) / photo.shape[1::-1], (0, 0)]]], np.float32),
        "POINT_LABELS": np.array([[[FOREGROUND, PADDING]]], np.int32),
        "MASK_INPUT": np.zeros((1, 1, side, side), np.float32),
        "HAS_MASK_INPUT": np.array([[False]]),
        "MASK_TOKENS": np.array([[0]], np.int32),
    }
    logits = run(loaded, mask_decoder.COMPONENT, {**features, **prompt})["MASK_LOGITS"][0, 0, 0]
    tokens = ClipTokenizer().tokens(TEXT).ids[None]
    concept = {
        **run(loaded, text_encoder.COMPONENT, {"TOKENS": tokens}),
        "TEXT_MASK": tokens != 0,
        "BOX_COORDS": np.zeros((1, 1, 4), np.float32),
        "BOX_LABELS": np.array([[EMPTY]], np.int32),
        "RANKS": np.arange(2 * INSTANCES, dtype=np.int32)[None],
    }
    instances = run(loaded, concept_detector.COMPONENT, {**features, **concept})
    return logits, to_mask(logits, (photo.shape[0], photo.shape[1])) > 0, instances


def run(loaded: Checkpoint, component: Component, inputs: Arrays) -> Arrays:
    """The answer of a component's PyTorch module."""
    return run_module(component.module(loaded).eval(), component.spec(loaded.architecture), inputs)


def compared(found: Instances, expected: Arrays) -> Figures:
    """The largest differences of the served instances from PyTorch's, each with the nearest of twice as many."""
    width, height = found.image_size
    centres, halves = expected["BOXES"][0, :, :2], expected["BOXES"][0, :, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=1)
    masks = [to_binary(logits, (height, width)) > 0 for logits in expected["MASK_LOGITS"][0].astype(np.float32)]
    boxes, ious = [], []
    for box, mask in zip(found.boxes / [width, height, width, height], found.masks, strict=True):
        distances = np.abs(corners - box).max(axis=1)
        overlaps = np.array([golden.iou(mask, other) for other in masks])
        nearest = int((distances - overlaps).argmin())
        boxes.append(distances[nearest])
        ious.append(overlaps[nearest])
    scores = np.abs(found.scores - expected["SCORES"][0, : len(found.scores)])
    return {
        "largest_score_difference": float(scores.max()),
        "largest_box_difference": float(max(boxes)),
        "lowest_instance_iou": round(float(min(ious)), 5),
    }


def serve_and_ask(repository: Path) -> tuple[Prediction, Instances, Figures]:
    """The answers of the served export to click and text, and the seconds that start, clicks and texts took."""
    started = time.monotonic()
    with (
        (FOLDER / "triton.log").open("w") as log,
        TritonServer(repository, log, ports=Ports(*free_ports(3))) as server,
        Sam3Client(server.grpc_url, timeout_s=600) as client,
    ):
        ready = time.monotonic() - started
        answer, clicks = timed(lambda: client.predict(PHOTO, points=[CLICK]))
        concept, texts = timed(
            lambda: client.find(PHOTO, text=TEXT, threshold=THRESHOLD, max_instances=INSTANCES), count=4
        )
        peaks = [encoder_peak_bytes(server)]
        for _ in range(IMAGES - 1):
            client.predict(fresh_image(), points=[(60, 40)])
            peaks.append(encoder_peak_bytes(server))
    figures = {
        "ready_seconds": round(ready),
        "first_click_seconds": round(clicks[0], 1),
        "warm_click_seconds": round(float(np.median(clicks[1:])), 2),
        "first_text_seconds": round(texts[0], 1),
        "warm_text_seconds": round(float(np.median(texts[1:])), 2),
        "encoder_process_gb": [None if peak is None else round(peak / 1e9, 2) for peak in peaks],
    }
    return answer, concept, figures


def timed(ask: Callable[[], Answer], count: int = 6) -> tuple[Answer, list[float]]:
    """The last of several answers, and the seconds of each."""
    seconds = []
    for _ in range(count):
        started = time.monotonic()
        answer = ask()
        seconds.append(time.monotonic() - started)
    return answer, seconds
