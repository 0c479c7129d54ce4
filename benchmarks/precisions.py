"""Compares each precision with fp32: size, time and memory of the encoder, and the masks.

Runs on the CPU. fp16 is for GPUs, so its time here says little.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from sam3_demo.held_out import box_of, held_out, overlap
from sam3_export import checkpoint, spec
from sam3_export.architecture import Architecture
from sam3_export.artifacts import Artifact, cast, run_module
from sam3_export.components import image_encoder, mask_decoder
from sam3_export.components.click_prompts import FOREGROUND
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from sam3_export.components.pictures import pixels
from sam3_export.formats import FORMATS
from sam3_export.golden_clicks import Click
from sam3_export.spec import Arrays

from benchmarks.report import table
from benchmarks.results import BenchmarkError

REFERENCE = "onnx"
# Images through each encoder, in turns; held-out scenes for the masks.
ROUNDS, SCENES = 80, 60
Figures = dict[str, dict[str, float]]
# Image encoder and mask decoder.
Halves = tuple[Callable[[Arrays], Arrays], Callable[[Arrays], Arrays]]


def compare_precisions(repository: Path, demo: Path, rounds: int = ROUNDS, scenes: int = SCENES) -> Figures:
    """Figures of every format that the repository holds, by name.

    Args:
        demo: the demonstration checkpoint. If the artifacts come from it, the masks of held-out scenes are compared
            with those of PyTorch in fp32.

    Raises:
        BenchmarkError: the repository has no fp32 artifact to compare with.
    """
    folder = repository / "sam3" / "exports" / "current"
    encoders = {
        name: path
        for name, format_ in FORMATS.items()
        if (path := folder / image_encoder.NAME / format_.file_name).is_file()
    }
    if REFERENCE not in encoders:
        raise BenchmarkError(f"{folder} has no artifact in fp32: sam3-export --formats {REFERENCE},...")
    report: dict[str, Any] = json.loads((folder / "export.json").read_text())
    architecture = Architecture.of_sizes(report["architecture"])
    figures = _costs(encoders, architecture, rounds)
    for name, row in figures.items():
        artifact = report["artifacts"][f"{image_encoder.NAME}/{FORMATS[name].file_name}"]
        row["feature_error"] = max(max(case.values()) for case in artifact["differences"].values())
    if report["checkpoint"]["source"] == demo.name:
        for name, row in _quality(folder, list(encoders), architecture, demo, scenes).items():
            figures[name] |= row
    return figures


def markdown(figures: Figures) -> str:
    """The table of `docs/precisions.md`: ratios to fp32, whose own figures come first."""
    reference = figures[REFERENCE]
    header = ("`--formats`", "file", "time of an image", "memory", "features at the gate", "mask IoU: mean (lowest)")
    rows = [
        (
            f"`{name}`",
            *(f"x {row[key] / reference[key]:.2f}" for key in ("file_megabytes", "milliseconds", "resident_megabytes")),
            f"{row['feature_error']:.2g}",
            f"{row['mean_mask_iou']:.3f} ({row['lowest_mask_iou']:.2f})" if "mean_mask_iou" in row else "",
        )
        for name, row in figures.items()
    ]
    own = f"{reference['milliseconds']:.1f} ms an image, {reference['resident_megabytes']:.0f} MB of memory"
    return f"# Precisions\n\n`{REFERENCE}`: {own}.\n\n{table(header, rows)}\n"


def _costs(encoders: dict[str, Path], architecture: Architecture, rounds: int) -> Figures:
    """Megabytes of the file, milliseconds an image (median, in turns) and resident megabytes, by format."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    resident: dict[str, int] = {}
    with ExitStack() as stack:
        pipes = {}
        for name, path in encoders.items():
            pipes[name], theirs = context.Pipe()
            process = context.Process(target=_encoder_process, args=(path, architecture, theirs), daemon=True)
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


def _encoder_process(path: Path, architecture: Architecture, pipe: Connection) -> None:
    """Holds an encoder as a server does; answers each True with the seconds for one image and the resident bytes."""
    run = _serving(path)
    inputs = pixels(architecture, 1, seed=0)
    run(inputs)
    while pipe.recv():
        run(inputs)  # the other processes' turns leave cold caches, and their threads may still spin
        started = time.perf_counter()
        run(inputs)
        pipe.send((time.perf_counter() - started, psutil.Process().memory_info().rss))


def _serving(path: Path) -> Callable[[Arrays], object]:
    """An encoder with the settings of a server; those of the parity check save memory at the cost of time."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.enable_mem_pattern = False  # as in the profiles for CPUs
        options.log_severity_level = 3  # fp16 has no kernels for a CPU
        options.add_session_config_entry("session.force_spinning_stop", "1")  # spinning threads would disturb the next
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, inputs)
    import torch

    module = torch.jit.load(str(path))

    def run(inputs: Arrays) -> object:
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            return module(torch.from_numpy(inputs["PIXELS"]))

    return run


def _quality(folder: Path, formats: list[str], architecture: Architecture, demo: Path, scenes: int) -> Figures:
    """Mean and lowest IoU of masks with PyTorch's, for a click and a box on each held-out scene, by format."""
    halves = {name: _of_format(folder, name, architecture) for name in formats}
    loaded = checkpoint.load(str(demo), demo.with_suffix(".json"))
    components = image_encoder.spec(architecture), mask_decoder.spec(architecture)
    modules = ImageEncoder(loaded.model).eval(), MaskDecoder(loaded.model).eval()
    encode, decode = (partial(run_module, *pair) for pair in zip(modules, components, strict=True))
    overlaps: dict[str, list[float]] = {name: [] for name in formats}
    for scene, targets in held_out("plain", scenes):
        clicks = []
        for target in targets:
            y, x = np.argwhere(target)[target.sum() // 2] / scene.image.shape[0]
            left, top, right, bottom = box_of(target)[0].ravel().tolist()
            clicks += [Click("a point", ((x, y),), (FOREGROUND,)), Click("a box", box=(left, top, right, bottom))]
        expected = _masks((encode, decode), architecture, scene.image, clicks)
        for name, both in halves.items():
            masks = _masks(both, architecture, scene.image, clicks)
            overlaps[name] += [overlap(mask, same) for mask, same in zip(masks, expected, strict=True)]
    return {
        name: {"mean_mask_iou": float(np.mean(found)), "lowest_mask_iou": min(found)}
        for name, found in overlaps.items()
    }


def _of_format(folder: Path, name: str, architecture: Architecture) -> Halves:
    """A format's artifacts, as the parity check runs them."""
    halves = []
    for component in (image_encoder.spec(architecture), mask_decoder.spec(architecture)):
        format_ = FORMATS[name]
        # onnx-tensorrt is served with the mask decoder of onnx-fp16; here, that of fp32 shows the error of its encoder.
        if format_.adapt(component) is None:
            format_ = FORMATS[REFERENCE]
        adapted = format_.adapt(component)
        assert adapted is not None
        artifact = format_.writer().load(adapted, folder / component.model_name / format_.file_name)
        halves.append(partial(_run, artifact, adapted))
    return halves[0], halves[1]


def _run(artifact: Artifact, component: spec.ComponentSpec, inputs: Arrays) -> Arrays:
    return artifact.run(cast(inputs, component))


def _masks(halves: Halves, architecture: Architecture, image: np.ndarray, clicks: list[Click]) -> list[np.ndarray]:
    """For each click the single mask, bool [h, w], of low resolution."""
    encode, decode = halves
    size = architecture.image_size
    picture = np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))[None]
    features = encode({"PIXELS": picture})
    return [decode({**features, **click.inputs(architecture)})["MASK_LOGITS"][0, 0, 0] > 0 for click in clicks]
