"""What each precision costs and gains against fp32, in one run: `python benchmarks/precisions.py --help`.

Of the image encoder: size, time of an image, memory of a process that holds it alone. With the demonstration model the
masks too, against those of PyTorch in fp32: on held-out scenes, through both halves, each format's own. On the CPU;
fp16 is for GPUs, and its time here says little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sam3_demo.held_out import box_of, held_out, overlap
from sam3_export import checkpoint, spec
from sam3_export.architecture import Architecture
from sam3_export.artifacts import Artifact, cast, run_module
from sam3_export.checkpoint import Checkpoint
from sam3_export.formats import FORMATS
from sam3_export.modules import ImageEncoder, MaskDecoder
from sam3_export.samples import SINGLE_TOKEN, Arrays, pixels

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it does not find its own package

from benchmarks.model_functions import PROJECT

DEMO_CHECKPOINT = PROJECT / "export" / "sam3_export" / "demo" / "sam3_demo.pt"
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
    """Both halves of the network, whoever runs them."""

    def __init__(
        self, architecture: Architecture, encode: Callable[[Arrays], Arrays], decode: Callable[[Arrays], Arrays]
    ) -> None:
        self._architecture = architecture
        self._encode = encode
        self._decode = decode

    @classmethod
    def of_pytorch(cls, loaded: Checkpoint) -> Segmenter:
        """The modules in fp32, features included."""
        sizes = loaded.architecture
        encoder, decoder = ImageEncoder(loaded.model).eval(), MaskDecoder(loaded.model).eval()
        return cls(
            sizes,
            partial(run_module, encoder, spec.image_encoder(sizes)),
            partial(run_module, decoder, spec.mask_decoder(sizes)),
        )

    @classmethod
    def of_format(cls, folder: Path, format_name: str, architecture: Architecture) -> Segmenter:
        """A format's artifacts, as the gate runs them."""
        halves = []
        for component in (spec.image_encoder(architecture), spec.mask_decoder(architecture)):
            format_ = FORMATS[format_name]
            if format_.adapt(component) is None:  # the mask decoder of fp32 is served with it
                format_ = FORMATS[REFERENCE]
            adapted = format_.adapt(component)
            assert adapted is not None
            artifact = format_.load(adapted, folder / component.model_name / format_.file_name)
            halves.append(partial(_run, artifact, adapted))
        return cls(architecture, *halves)

    def masks(self, image: np.ndarray, prompts: list[tuple[np.ndarray, list[int]]]) -> list[np.ndarray]:
        """For each prompt (points as fractions [N, 2], labels) the single mask, bool [h, w], of low resolution."""
        from PIL import Image

        size, side = self._architecture.image_size, self._architecture.low_res_size
        picture = np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))[None]
        features = self._encode({"PIXELS": picture})
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
            found.append(self._decode(inputs)["MASK_LOGITS"][0, 0] > 0)
        return found


def _run(artifact: Artifact, component: spec.ComponentSpec, inputs: Arrays) -> Arrays:
    return artifact.run(cast(inputs, component))


def quality(folder: Path, formats: list[str], architecture: Architecture, scenes: int) -> dict[str, dict[str, float]]:
    """Mean and lowest IoU of masks with PyTorch's, for a click and a box on each held-out scene, by format."""
    segmenters = {name: Segmenter.of_format(folder, name, architecture) for name in formats}
    pytorch = Segmenter.of_pytorch(checkpoint.load(str(DEMO_CHECKPOINT), DEMO_CHECKPOINT.with_suffix(".json")))
    overlaps: dict[str, list[float]] = {name: [] for name in formats}
    for scene, targets in held_out("plain", scenes):
        prompts = []
        for target in targets:
            y, x = np.argwhere(target)[target.sum() // 2]
            prompts.append((np.array([[x, y]]) / scene.image.shape[0], [spec.FOREGROUND]))
            prompts.append((box_of(target)[0].numpy(), [spec.BOX_FIRST, spec.BOX_SECOND]))
        expected = pytorch.masks(scene.image, prompts)
        for name, segmenter in segmenters.items():
            masks = segmenter.masks(scene.image, prompts)
            overlaps[name] += [overlap(mask, same) for mask, same in zip(masks, expected, strict=True)]
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
    if report["checkpoint"]["source"] == DEMO_CHECKPOINT.name:
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
