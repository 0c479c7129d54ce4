"""SAM 3's own size through the whole line, with seeded random weights: `make full-size-check`.

Writes a file in the layout of `sam3.pt`, exports it by the command that users type, serves it, clicks, and compares the
mask with that of the PyTorch modules. About twenty minutes on two cores, 16 GB of memory, 10 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sam3_export.artifacts import run_module
from sam3_export.modules import ImageEncoder, MaskDecoder
from sam3_server import Ports, TritonServer
from sam3_triton import Sam3Client

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it does not find its own package

from benchmarks.model_functions import PROJECT, decode, to_mask, to_network_pixels
from benchmarks.random_weights import copy_bare_repository, write_checkpoint

PHOTO = PROJECT / "tests" / "data" / "golden" / "coffee.png"
CLICK = (360, 290)
PORTS = Ports(8210, 8211, 8212)
# torchscript-fp16 wants a GPU at this size.
FORMATS = ("onnx", "onnx-fp16", "onnx-int8", "torchscript")
MINIMUM_IOU = 0.999
Figures = dict[str, Any]


def export(checkpoint: Path, repository: Path) -> Figures:
    """Runs sam3-export in a process of its own and watches its memory."""
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
    if process.wait():
        raise SystemExit("the export failed")
    report = json.loads((repository / "sam3" / "exports" / "current" / "export.json").read_text())
    return {
        "export_seconds": round(time.monotonic() - started),
        "export_peak_gb": round(peak / 1e9, 1),
        "artifacts": {name: _told(entry) for name, entry in report["artifacts"].items()},
    }


def _told(entry: dict[str, Any]) -> Figures:
    """What the export's report says of an artifact."""
    return {
        "megabytes": round(entry["bytes"] / 1e6),
        "export_seconds": round(entry["export_seconds"]),
        "check_seconds": round(entry["check_seconds"]),
        "largest_difference_at_the_gate": max(
            value for case in entry["differences"].values() for value in case.values()
        ),
    }


def expected(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the PyTorch modules make of the click: logits [h, w] and the mask, bool [H, W]."""
    from sam3_export import spec
    from sam3_export.checkpoint import load

    loaded = load(str(checkpoint))
    photo = decode(PHOTO.read_bytes())
    pixels = to_network_pixels(photo, loaded.architecture.image_size).copy()  # Pillow keeps its own from changes
    features = run_module(
        ImageEncoder(loaded.model).eval(), spec.image_encoder(loaded.architecture), {"PIXELS": pixels}
    )
    side = loaded.architecture.low_res_size
    prompt = {
        "POINT_COORDS": np.array([[np.array(CLICK) / photo.size, (0, 0)]], np.float32),
        "POINT_LABELS": np.array([[spec.FOREGROUND, spec.PADDING]], np.int32),
        "MASK_INPUT": np.zeros((1, 1, side, side), np.float32),
        "HAS_MASK_INPUT": np.array([[False]]),
        "MASK_TOKENS": np.array([[0]], np.int32),
    }
    decoder = MaskDecoder(loaded.model).eval()
    logits = run_module(decoder, spec.mask_decoder(loaded.architecture), {**features, **prompt})["MASK_LOGITS"][0, 0]
    return logits, to_mask(logits, photo.size[::-1]) > 0


def serve_and_click(repository: Path, log: Path, wanted: tuple[np.ndarray, np.ndarray]) -> Figures:
    """Serves the export and compares its answer."""
    started = time.monotonic()
    with log.open("w") as file, TritonServer(repository, file, ports=PORTS) as server:
        ready = time.monotonic() - started
        with Sam3Client(server.grpc_url, timeout_s=600) as client:
            seconds = []
            for _ in range(6):
                started = time.monotonic()
                answer = client.predict(PHOTO, points=[CLICK])
                seconds.append(time.monotonic() - started)
    logits, mask = wanted
    found = answer.masks[0]
    return {
        "ready_seconds": round(ready),
        "first_click_seconds": round(seconds[0], 1),
        "warm_click_seconds": round(float(np.median(seconds[1:])), 2),
        "largest_logit_difference": float(np.abs(answer.low_res_logits[0] - logits.clip(-32, 32)).max()),
        "share_of_the_photo_in_the_mask": round(float(found.mean()), 3),
        "iou_with_pytorch": round(float((found & mask).sum() / max(1, (found | mask).sum())), 5),
    }


def main() -> int:
    """Prints the figures as JSON, and returns 1 where the masks differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out/full-size"), help="for all it writes (%(default)s)")
    options = parser.parse_args()
    folder, repository = options.folder, options.folder / "model_repository"
    checkpoint = folder / "sam3.pt"
    shutil.rmtree(folder, ignore_errors=True)
    copy_bare_repository(repository)
    print(f"Writing {checkpoint} (seeded random weights) ...", flush=True)
    write_checkpoint(checkpoint)
    figures = export(checkpoint, repository)
    print("The PyTorch modules' answer to a click (about a minute) ...", flush=True)
    wanted = expected(checkpoint)
    print(f"Serving it (log: {folder}/triton.log) ...", flush=True)
    figures |= serve_and_click(repository, folder / "triton.log", wanted)
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    share = figures["share_of_the_photo_in_the_mask"]
    if not 0.01 < share < 0.99:
        print("full-size-check: the mask says nothing: it is nearly empty or nearly the whole photo", file=sys.stderr)
        return 1
    if figures["iou_with_pytorch"] < MINIMUM_IOU:
        print(f"full-size-check: the masks differ, IoU {figures['iou_with_pytorch']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
