"""The whole export: a checkpoint in, a checked and installed set of artifacts out."""

from __future__ import annotations

import datetime
import gc
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sam3_export import installation, parity, samples, spec
from sam3_export.checkpoint import Checkpoint
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS, Format
from sam3_export.modules import ImageEncoder, MaskDecoder
from sam3_export.progress import Steps
from sam3_export.samples import Arrays

REPORT = "export.json"
MODEL_NAMES = (spec.IMAGE_ENCODER, spec.MASK_DECODER)
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
        ExportError: the repository is not fit for it, or an artifact failed its gate. Nothing is installed then.
    """
    installation.check_repository(repository, MODEL_NAMES)
    with installation.staging(repository) as staged:
        parameter_bytes = sum(tensor.nbytes for tensor in checkpoint.model.state_dict().values())
        installation.check_space(staged, len(format_names) * parameter_bytes)
        components = _components(checkpoint, steps)
        artifacts = {}
        for name in format_names:
            for component in components:
                if not FORMATS[name].suits(component.spec):
                    continue
                key, entry = _write_and_check(component, FORMATS[name], staged, checkpoint, steps)
                artifacts[key] = entry
        (staged / REPORT).write_text(json.dumps(_report(checkpoint, artifacts), indent=2) + "\n")
        now = datetime.datetime.now(datetime.timezone.utc)
        set_name = f"{now:%Y%m%dT%H%M%S.%f}-{checkpoint.sha256[:8]}"
        installation.install(repository, staged, set_name, MODEL_NAMES)
    return repository / installation.EXPORTS / installation.CURRENT


def _components(checkpoint: Checkpoint, steps: Steps) -> list[_Component]:
    architecture = checkpoint.architecture
    encoder, encoder_spec = ImageEncoder(checkpoint.model).eval(), spec.image_encoder(architecture)
    decoder, decoder_spec = MaskDecoder(checkpoint.model).eval(), spec.mask_decoder(architecture)
    with steps.step("Reference answers of the PyTorch modules"):
        encoder_cases = parity.encoder_cases(encoder, encoder_spec, architecture)
        answers = [case.expected for case in encoder_cases]
        features = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        decoder_cases = parity.decoder_cases(decoder, decoder_spec, architecture, features)
    pixels = samples.pixels(architecture, samples.EXPORT_BATCH, seed=0)
    sample_features = {name: values[: samples.EXPORT_BATCH] for name, values in features.items()}
    prompt = samples.prompts(architecture, samples.EXPORT_PROMPT, seed=0)
    return [
        _Component(encoder, encoder_spec, pixels, encoder_cases),
        _Component(decoder, decoder_spec, {**sample_features, **prompt}, decoder_cases),
    ]


def _write_and_check(
    component: _Component, format_: Format, staged: Path, checkpoint: Checkpoint, steps: Steps
) -> tuple[str, dict[str, Any]]:
    spec_ = component.spec
    path = staged / spec_.model_name / format_.file_name
    path.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    with steps.step(f"{format_.name}: writing the {spec_.title}") as step:
        try:
            format_.write(component.module, spec_, component.sample, path)
        except RuntimeError as error:  # of the exporters, about this network
            raise ExportError(f"{spec_.title}: {format_.name} failed ({str(error).strip().splitlines()[0]})") from error
        step.result = f"{path.stat().st_size / 1e6:.1f} MB"
    gc.collect()  # the exporters leave copies of the weights in cycles
    written = time.monotonic()
    with steps.step(f"{format_.name}: checking the {spec_.title} against PyTorch") as step:
        artifact = format_.load(spec_, path)
        gate = replace(spec_, tolerances=format_.tolerances(spec_))
        result = parity.check(artifact, gate, component.cases, checkpoint.architecture.image_size, step.show)
        worst = max(value for case in result.differences.values() for value in case.values())
        step.result = f"largest difference {worst:.1e} of scale"
    entry = {
        "bytes": path.stat().st_size,
        "export_seconds": round(written - started, 2),
        "check_seconds": round(time.monotonic() - written, 2),
        "tolerances": gate.tolerances,
        "differences": result.differences,
    }
    if result.minimum_mask_iou is not None:
        entry["minimum_mask_iou"] = result.minimum_mask_iou
    return f"{spec_.model_name}/{format_.file_name}", entry


def _report(checkpoint: Checkpoint, artifacts: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_size": checkpoint.architecture.image_size,  # read by sam3_preprocess
        "empty_slot_label": spec.EMPTY,  # read by sam3_prompt
        "checkpoint": {"source": Path(checkpoint.source).name, "sha256": checkpoint.sha256},
        "architecture": asdict(checkpoint.architecture),
        "artifacts": artifacts,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "exported_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
