"""What each precision costs and gains against fp32, in one run: `python benchmarks/precisions.py --help`.

Of the image encoder: size, time of an image, memory of a process that holds it alone. With the demonstration model the
masks too: on held-out scenes, through both halves, each format's own. On the CPU; fp16 is for GPUs, and its time here
says little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sam3_export import spec
from sam3_export.architecture import Architecture
from sam3_export.artifacts import cast
from sam3_export.demo.evaluate import box_of, held_out, overlap
from sam3_export.formats import FORMATS
from sam3_export.samples import SINGLE_TOKEN, Arrays, pixels

DEMO_CHECKPOINT = "sam3_demo.pt"
REFERENCE = "onnx"
Run = Callable[[Arrays], object]


def encoder_process(format_name: str, path: Path, architecture: Architecture, pipe: Connection) -> None:
    """Holds an encoder as a server does; answers each number of images with seconds for one, and bytes resident."""
    run = serving(format_name, path, architecture)
    inputs = pixels(architecture, 1, seed=0)
    run(inputs)
    while pipe.recv():
        run(inputs)  # after the others' turns the caches are cold, and threads of theirs may still spin
        started = time.perf_counter()
        run(inputs)
        pipe.send((time.perf_counter() - started, psutil.Process().memory_info().rss))


def serving(format_name: str, path: Path, architecture: Architecture) -> Run:
    """An encoder with the settings of a server; those of the gate save memory and cost time."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # fp16 has no kernels for a CPU
        options.add_session_config_entry("session.force_spinning_stop", "1")  # or its threads disturb the next one
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)
    import torch

    module = torch.jit.load(str(path))

    def run(inputs: Arrays) -> object:
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return module(torch.from_numpy(inputs["PIXELS"]))

    return run


def cost(encoders: dict[str, Path], architecture: Architecture, rounds: int) -> dict[str, dict[str, float]]:
    """Megabytes of the file, milliseconds an image (median, in turns) and resident megabytes, by format."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    resident: dict[str, int] = {}
    with ExitStack() as stack:
        pipes = {}
        for name, path in encoders.items():
            pipes[name], theirs = context.Pipe()
            process = context.Process(target=encoder_process, args=(name, path, architecture, theirs), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(pipes[name].send, False)
        for _ in range(rounds):
            for name, pipe in pipes.items():
                pipe.send(True)
                one, resident[name] = pipe.recv()
                seconds[name].append(one)
    return {
        name: {
            "file_megabytes": path.stat().st_size / 1e6,
            "milliseconds": 1000 * statistics.median(seconds[name]),
            "resident_megabytes": resident[name] / 1e6,
        }
        for name, path in encoders.items()
    }


class Segmenter:
    """Both halves of a format, as the gate runs them."""

    def __init__(self, folder: Path, format_name: str, architecture: Architecture) -> None:
        self._architecture = architecture
        halves = []
        for component in (spec.image_encoder(architecture), spec.mask_decoder(architecture)):
            format_ = FORMATS[format_name]
            if format_.adapt(component) is None:  # the mask decoder of fp32 is served with it
                format_ = FORMATS[REFERENCE]
            adapted = format_.adapt(component)
            assert adapted is not None
            halves.append((adapted, format_.load(adapted, folder / component.model_name / format_.file_name)))
        (self._encoder_spec, self._encoder), (self._decoder_spec, self._decoder) = halves

    def masks(self, image: np.ndarray, prompts: list[tuple[np.ndarray, list[int]]]) -> list[np.ndarray]:
        """For each prompt (points as fractions [N, 2], labels) the single mask, bool [h, w], of low resolution."""
        from PIL import Image

        size, side = self._architecture.image_size, self._architecture.low_res_size
        picture = np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))[None]
        features = self._encoder.run(cast({"PIXELS": picture}, self._encoder_spec))
        found = []
        for points, labels in prompts:
            inputs = {
                **features,
                "POINT_COORDS": np.concatenate([points, [[0, 0]]]).astype(np.float32)[None],
                "POINT_LABELS": np.array([[*labels, spec.PADDING]], np.int32),
                "MASK_INPUT": np.zeros((1, 1, side, side), np.float32),
                "HAS_MASK_INPUT": np.array([[False]]),
                "MASK_TOKENS": np.array([SINGLE_TOKEN], np.int32),
            }
            found.append(self._decoder.run(cast(inputs, self._decoder_spec))["MASK_LOGITS"][0, 0] > 0)
        return found


def quality(folder: Path, formats: list[str], architecture: Architecture, scenes: int) -> dict[str, dict[str, float]]:
    """Mean and lowest IoU of masks with those of fp32, for a click and a box on each held-out scene, by format."""
    segmenters = {name: Segmenter(folder, name, architecture) for name in formats}
    overlaps: dict[str, list[float]] = {name: [] for name in formats}
    for scene, targets in held_out("plain", scenes):
        prompts = []
        for target in targets:
            y, x = np.argwhere(target)[target.sum() // 2]
            prompts.append((np.array([[x, y]]) / scene.image.shape[0], [spec.FOREGROUND]))
            prompts.append((box_of(target)[0].numpy(), [spec.BOX_FIRST, spec.BOX_SECOND]))
        answers = {name: segmenter.masks(scene.image, prompts) for name, segmenter in segmenters.items()}
        for name, masks in answers.items():
            overlaps[name] += [overlap(mask, same) for mask, same in zip(masks, answers[REFERENCE], strict=True)]
    return {
        name: {"mean_mask_iou": float(np.mean(found)), "lowest_mask_iou": min(found)}
        for name, found in overlaps.items()
    }


def main() -> None:
    """Prints the figures as JSON, ratios to fp32 among them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="with artifacts (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="images each encoder takes, in turns (%(default)s)")
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes of the demo model (%(default)s)")
    options = parser.parse_args()
    folder = options.repository / "sam3" / "exports" / "current"
    report: dict[str, Any] = json.loads((folder / "export.json").read_text())
    sizes = report["architecture"]
    architecture = Architecture(**{**sizes, "global_attn_indexes": tuple(sizes["global_attn_indexes"])})
    encoders = {
        name: path
        for name, format_ in FORMATS.items()
        if (path := folder / spec.IMAGE_ENCODER / format_.file_name).is_file()
    }
    if REFERENCE not in encoders:
        raise SystemExit(f"{folder} has no artifact in fp32: sam3-export --formats {REFERENCE},...")
    figures = cost(encoders, architecture, options.rounds)
    reference = dict(figures[REFERENCE])
    for name, row in figures.items():
        row |= {f"{key}_ratio": row[key] / value for key, value in reference.items()}
        artifact = report["artifacts"][f"{spec.IMAGE_ENCODER}/{FORMATS[name].file_name}"]
        row["feature_error"] = max(max(case.values()) for case in artifact["differences"].values())
    if report["checkpoint"]["source"] == DEMO_CHECKPOINT:
        for name, row in quality(folder, list(encoders), architecture, options.scenes).items():
            figures[name] |= row
    print(
        json.dumps(
            {name: {key: float(f"{value:.4g}") for key, value in row.items()} for name, row in figures.items()},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
