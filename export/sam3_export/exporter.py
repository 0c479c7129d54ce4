"""The whole export: a checkpoint in, a checked and installed set of artifacts out."""

from __future__ import annotations

import datetime
import gc
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sam3_export import golden_clicks, installation, native_backends, parity, samples, spec
from sam3_export.artifacts import Artifact, Format, cast, run_module
from sam3_export.checkpoint import Checkpoint
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS
from sam3_export.modules import ImageEncoder, MaskDecoder, ServedImageEncoder
from sam3_export.progress import Steps
from sam3_export.samples import Arrays

REPORT = "export.json"
MODEL_NAMES = (spec.IMAGE_ENCODER, spec.MASK_DECODER)
# What takes long, in images through the PyTorch encoder: the reference answers, and each format's image encoder, half
# of it to write and half to check. Measured at SAM 3's own size (docs/full-size.md); all else takes seconds.
_REFERENCE_COST = float(sum(samples.PARITY_BATCHES))
_COSTS = {"onnx": 3.7, "onnx-fp16": 4.0, "onnx-int8": 1.6, "torchscript": 4.5, "torchscript-fp16": 1.0}
_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True)
class _Component:
    """A half of the network with all that its export needs."""

    module: nn.Module
    spec: spec.ComponentSpec
    sample: Arrays
    cases: list[parity.Case]


def export(checkpoint: Checkpoint, repository: Path, format_names: tuple[str, ...], steps: Steps) -> Path:
    """Exports both halves in every format, checks each artifact, installs the set and returns its folder.

    Raises:
        ExportError: the repository or this machine is not fit for it, or an artifact failed its gate. Nothing is
            installed then.
    """
    installation.check_repository(repository, MODEL_NAMES)
    for name in format_names:
        FORMATS[name].check_machine(sum(weight.numel() for weight in checkpoint.model.parameters()))
    with installation.staging(repository) as staged:
        parameter_bytes = sum(tensor.nbytes for tensor in checkpoint.model.state_dict().values())
        installation.check_space(staged, len(format_names) * parameter_bytes)
        steps.plan(_REFERENCE_COST + sum(_COSTS[name] for name in format_names))
        work = _Export(checkpoint, staged, steps)
        for name in format_names:
            work.add(FORMATS[name])
        work.golden.write(staged / golden_clicks.FOLDER)
        (staged / REPORT).write_text(json.dumps(_report(checkpoint, work.entries), indent=2) + "\n")
        _check_for_native_backends(repository, staged)
        now = datetime.datetime.now(datetime.timezone.utc)
        set_name = f"{now:%Y%m%dT%H%M%S.%f}-{checkpoint.sha256[:8]}"
        installation.install(repository, staged, set_name, MODEL_NAMES)
    return repository / installation.EXPORTS / installation.CURRENT


def _check_for_native_backends(repository: Path, staged: Path) -> None:
    faults = native_backends.check(repository, staged)
    if faults:
        raise ExportError(f"not fit for Triton's native backends: {'; '.join(map(str, faults))}")


class _Export:
    """A set of artifacts in the making; `entries` is what the report says of each, by its path in the set."""

    def __init__(self, checkpoint: Checkpoint, staged: Path, steps: Steps) -> None:
        self._architecture = checkpoint.architecture
        self._staged = staged
        self._steps = steps
        self.entries: dict[str, dict[str, Any]] = {}
        encoder, encoder_spec = ImageEncoder(checkpoint.model).eval(), spec.image_encoder(self._architecture)
        decoder, decoder_spec = MaskDecoder(checkpoint.model).eval(), spec.mask_decoder(self._architecture)
        with steps.step("Reference answers of the PyTorch modules", _REFERENCE_COST):
            encoder_cases = []
            for batch in samples.PARITY_BATCHES:
                started = time.monotonic()
                encoder_cases.append(parity.encoder_case(encoder, encoder_spec, self._architecture, batch))
                steps.measured((time.monotonic() - started) / batch)
            answers = [case.expected for case in encoder_cases]
            features = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
            decoder_cases = parity.decoder_cases(decoder, decoder_spec, self._architecture, features)
            self._picture = next(case for case in encoder_cases if len(case.inputs["PIXELS"]) == 1)
            self._decode = partial(run_module, decoder, decoder_spec)
            self.golden = golden_clicks.GoldenClicks(
                self._architecture, self._picture.inputs["PIXELS"], self._picture.expected, self._decode
            )
        pixels = samples.pixels(self._architecture, samples.EXPORT_BATCH, seed=0)
        sample_features = {name: values[: samples.EXPORT_BATCH] for name, values in features.items()}
        prompt = samples.prompts(self._architecture, samples.EXPORT_PROMPT, seed=0)
        self._encoder = _Component(ServedImageEncoder(encoder).eval(), encoder_spec, pixels, encoder_cases)
        self._decoder = _Component(decoder, decoder_spec, {**sample_features, **prompt}, decoder_cases)

    def add(self, format_: Format) -> None:
        """Writes and checks both halves in a format, and then replays the golden clicks through the two."""
        encoder_spec, decoder_spec = (format_.adapt(half.spec) for half in (self._encoder, self._decoder))
        # Where a format has no mask decoder, that of fp32 is served with it.
        decode: Callable[[Arrays], Arrays] = self._decode
        features, drift = self._picture.expected, spec.FP32_DRIFT
        if encoder_spec is not None:
            _, parity_ = self._write_and_check(self._encoder, encoder_spec, format_, _COSTS[format_.name])
            features, drift = parity_.answers[self._picture.name], encoder_spec.drift
        if decoder_spec is not None:
            artifact, _ = self._write_and_check(self._decoder, decoder_spec, format_)
            decode = artifact.run
        with self._steps.step(f"{format_.name}: replaying the golden clicks") as step:
            step.result = str(self.golden.check(format_.file_name, features, decode, drift))

    def _write_and_check(
        self, component: _Component, spec_: spec.ComponentSpec, format_: Format, cost: float = 0
    ) -> tuple[Artifact, parity.Parity]:
        path = self._staged / spec_.model_name / format_.file_name
        path.parent.mkdir(exist_ok=True)
        started = time.monotonic()
        with self._steps.step(f"{format_.name}: writing the {spec_.title}", cost / 2) as step:
            try:
                format_.write(component.module, spec_, cast(component.sample, spec_), path)
            except RuntimeError as error:  # of the exporters, about this network
                reason = str(error).strip().splitlines()[0]
                raise ExportError(f"{spec_.title}: {format_.name} failed ({reason})") from error
            step.result = f"{path.stat().st_size / 1e6:.1f} MB"
        gc.collect()  # the exporters leave copies of the weights in cycles
        written = time.monotonic()
        with self._steps.step(f"{format_.name}: checking the {spec_.title} against PyTorch", cost / 2) as step:
            artifact = format_.load(spec_, path)
            result = parity.check(artifact, spec_, component.cases, self._architecture.image_size, step.show)
            worst = max(value for case in result.differences.values() for value in case.values())
            step.result = f"largest difference {worst:.1e} of scale"
        entry = {
            "bytes": path.stat().st_size,
            "export_seconds": round(written - started, 2),
            "check_seconds": round(time.monotonic() - written, 2),
            "tolerances": spec_.tolerances,
            "differences": result.differences,
        }
        if result.minimum_mask_iou is not None:
            entry["minimum_mask_iou"] = result.minimum_mask_iou
        self.entries[f"{spec_.model_name}/{format_.file_name}"] = entry
        return artifact, result


def _report(checkpoint: Checkpoint, artifacts: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_size": checkpoint.architecture.image_size,  # read by sam3_preprocess
        "interface": spec.INTERFACE,  # read by sam3_embedding_cache
        "checkpoint": {"source": Path(checkpoint.source).name, "sha256": checkpoint.sha256},
        "architecture": asdict(checkpoint.architecture),
        "artifacts": artifacts,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "exported_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
