"""The measured networks, made on the device itself, and their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sam3_export import concept_network, demo
from sam3_export.architecture import Architecture
from sam3_export.artifacts import cast
from sam3_export.checkpoint import Checkpoint, load
from sam3_export.components import click_prompts, image_encoder, mask_decoder
from sam3_export.components.click_prompts import FOREGROUND
from sam3_export.components.image_encoder import ImageEncoder, ServedImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from sam3_export.components.pictures import pixels
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.formats import FORMATS
from sam3_export.golden_clicks import Click
from sam3_export.half_precision import half
from sam3_export.spec import Arrays, ComponentSpec
from torch import Tensor, nn

from benchmarks.gpu.messages import SkippedError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SEED = 0
# The concept half of the dry run's network, whose checkpoint may have none.
_SMALL_CONCEPTS = ConceptArchitecture(
    text_hidden_size=32,
    text_num_hidden_layers=2,
    text_num_attention_heads=2,
    detr_encoder_layers=1,
    detr_decoder_layers=1,
    detr_intermediate_size=64,
    num_queries=10,
    geometry_layers=1,
    scoring_hidden_size=64,
)


def full_size(device: torch.device) -> Checkpoint:
    """SAM 3's own size with seeded random weights, in fp32 on the device: seconds on a GPU, and no file of 3 GB."""
    architecture = Architecture(concepts=ConceptArchitecture())
    torch.manual_seed(_SEED)
    with device:  # new parameters are made there
        model, concepts = architecture.build(), concept_network.build(architecture)
    name = "random weights"
    return Checkpoint(model.to(device), architecture, "SAM 3", name, f"{_SEED:064x}", concepts.to(device))


def demonstration(device: torch.device) -> Checkpoint:
    """The demonstration checkpoint, with a concept half of random weights."""
    loaded = load(str(demo.CHECKPOINT), demo.CHECKPOINT.with_suffix(".json"), concepts=False)
    architecture = replace(loaded.architecture, concepts=_SMALL_CONCEPTS)
    torch.manual_seed(_SEED)
    concepts = concept_network.build(architecture).to(device)
    return replace(loaded, model=loaded.model.to(device), architecture=architecture, concepts=concepts)


@dataclass(frozen=True)
class Half:
    """Image encoder or mask decoder: its module in fp32 on the device, as it is exported, and its spec."""

    module: nn.Module
    spec: ComponentSpec
    sample: Arrays  # what TorchScript is traced on


class Network:
    """Image encoder and mask decoder of a checkpoint, for clicks alone."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.architecture = replace(checkpoint.architecture, concepts=None)

    @cached_property
    def encoder(self) -> Half:
        """Answers with features in fp16."""
        with torch.inference_mode(False):  # what is made in that mode cannot be traced
            module = ServedImageEncoder(ImageEncoder(self.checkpoint.model)).eval()
        return Half(module, image_encoder.spec(self.architecture), pixels(self.architecture, 2, _SEED))

    @cached_property
    def decoder(self) -> Half:
        """Takes features in fp16."""
        shape = click_prompts.EXPORT_PROMPT
        rng = np.random.default_rng(_SEED)
        spec = mask_decoder.spec(self.architecture)
        sample: Arrays = click_prompts.prompts(self.architecture, shape, _SEED)
        for tensor in image_encoder.features(self.architecture):
            sample[tensor.name] = rng.normal(0, 1, (shape.batch, *map(int, tensor.axes[1:]))).astype(tensor.dtype)
        with torch.inference_mode(False):
            module = MaskDecoder(self.checkpoint.model).eval()
        return Half(module, spec, sample)

    def pictures(self, batch: int, seed: int = _SEED) -> Tensor:
        """PIXELS uint8 [B, S, S, 3], on the device."""
        return torch.from_numpy(pixels(self.architecture, batch, seed)["PIXELS"]).to(self.device)

    def prompt(self, points: Sequence[tuple[float, float]], multimask: bool = False) -> tuple[Tensor, ...]:
        """The decoder's inputs after the features, for one click on each of B images, in host memory.

        Args:
            points: (x, y) as fractions of the image's side.
        """
        rows = [
            cast(Click("", (point,), (FOREGROUND,), multimask=multimask).inputs(self.architecture), self._prompt_spec)
            for point in points
        ]
        return tuple(
            torch.from_numpy(np.concatenate([row[tensor.name] for row in rows])) for tensor in self._prompt_spec.inputs
        )

    @cached_property
    def _prompt_spec(self) -> ComponentSpec:
        spec = self.decoder.spec
        return replace(spec, inputs=tuple(tensor for tensor in spec.inputs if tensor.name in _PROMPT))

    def for_decoder(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's outputs in the order of the decoder's inputs."""
        by_name = dict(zip((tensor.name for tensor in self.encoder.spec.outputs), features, strict=True))
        return [by_name[tensor.name] for tensor in self.decoder.spec.inputs if tensor.name in by_name]


_PROMPT = {"POINT_COORDS", "POINT_LABELS", "MASK_INPUT", "HAS_MASK_INPUT", "MASK_TOKENS"}


def eager(part: Half, precision: str) -> nn.Module:
    """A component in a precision, as PyTorch runs it."""
    if precision == "fp32":
        return part.module
    return half(part.module, own_softmax=False, dtype=DTYPES[precision]).eval()


def torchscript(part: Half, precision: str, device: torch.device, folder: Path) -> Any:
    """A component as `sam3-export` writes it and a server loads it.

    Raises:
        SkippedError: there is no TorchScript format in this precision.
    """
    name = "torchscript" if precision == "fp32" else f"torchscript-{precision}"
    format_ = FORMATS.get(name)
    spec = None if format_ is None else format_.adapt(part.spec)
    if format_ is None or spec is None:
        raise SkippedError(f"sam3-export has no format {name}")
    path = folder / f"{part.spec.model_name}.{format_.file_name}"
    if not path.exists():
        format_.writer().write(part.module, spec, cast(part.sample, spec), path)
    return torch.jit.load(str(path), map_location=device)
