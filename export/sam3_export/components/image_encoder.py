"""The image encoder: turns pixels into the features that mask decoder and concept detector need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam3_export.architecture import Architecture
from sam3_export.components.component import Component, References
from sam3_export.components.pictures import pixels
from sam3_export.spec import (
    BATCH,
    BF16_DRIFT,
    FP16_DRIFT,
    INT8_AGREEMENT,
    INT8_DRIFT,
    Arrays,
    Bounds,
    ComponentSpec,
    TensorSpec,
)

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

    from sam3_export.checkpoint import Checkpoint

NAME = "sam3_image_encoder"
FEATURES = ("HIGH_RES_FEATURES_0", "HIGH_RES_FEATURES_1", "IMAGE_EMBEDDING")
# Of the trunk, before any neck: what the concept detector needs.
BACKBONE_FEATURES = "BACKBONE_FEATURES"
# Meta normalises grey levels as (x / 255 - 0.5) / 0.5.
PIXEL_MEAN = PIXEL_STD = 0.5
# Every format sends and caches features in fp16, which halves memory and copies. They are compared with PyTorch's in
# fp32, so this covers the rounding to 11 bits (4.9e-4 of a value) and differences in arithmetic. Measured for the
# latter: 3e-6 with ONNX Runtime, on a tiny network of 4 layers and at SAM 3's own size; 5e-6 with 32 layers and random
# weights of twice the usual scale, as much as PyTorch's own distance from fp64; 5e-8 with TorchScript.
TOLERANCE = 6e-4
# fp16 rounds to 11 bits in every layer. Measured: 2e-3 on the demonstration checkpoint.
FP16_TOLERANCE = 2e-2
# bf16 rounds the factors of every product to 8 bits. Measured: 1.2e-2 on the golden checkpoint, and 2.4e-2 for the
# backbone features.
BF16_TOLERANCE = 1e-1
# Rounds activations and weights to 8 bits. Measured: 0.029 on the demonstration checkpoint, 0.041 at SAM 3's own size
# with random weights.
INT8_TOLERANCE = 0.05
_EXPORT_BATCH = 2
# A batch size other than the export's shows whether that one was baked into the graph.
_PARITY_BATCHES = (1, 2)
# onnx-tensorrt writes out attention: the scores of all pairs of patches, before and after the softmax. If those of a
# batch of two take more bytes, as at SAM 3's own size (6.9 GB), as many pictures go through one by one.
_MOST_SCORE_BYTES = 4e9
# Differs from the seed of the sample that an artifact is traced on.
_PARITY_SEED = 1000


class ImageEncoder(nn.Module):
    """Turns pixels into the features that the mask decoder needs, and those that the concept detector needs.

    Args of `forward`: `pixels` uint8 [B, S, S, 3], RGB, at the network's resolution.
    Returns: (high_res_features_0 [B, C/8, 4g, 4g], high_res_features_1 [B, C/4, 2g, 2g],
    image_embedding [B, C, g, g]), of the weights' dtype, where g = S / patch size; C = 256 and g = 72 for SAM 3.
    With a centre also backbone_features [B, D, g, g], the trunk's features minus that centre; D = 1024 for SAM 3.
    """

    centre: Tensor

    def __init__(self, model: Sam3TrackerModel, centre: Tensor | None = None) -> None:
        """
        Args:
            centre: see `centre_of`; None for clicks alone.
        """
        super().__init__()
        self.for_concepts = centre is not None
        if centre is not None:
            self.register_buffer("centre", centre)
        self.backbone = model.vision_encoder.backbone
        # A directory saved by transformers has a fourth level (x 1/2), which the tracker does not use.
        self.levels = nn.ModuleList(model.vision_encoder.neck.fpn_layers[:3])
        self.conv_s0 = model.mask_decoder.conv_s0
        self.conv_s1 = model.mask_decoder.conv_s1
        self.no_memory_embedding = model.no_memory_embedding

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_STD
        scaled = scaled.to(self.conv_s0.weight.dtype)
        tokens = self.backbone(scaled).last_hidden_state
        # Meta's predictor adds this embedding to the level that becomes the image embedding;
        # transformers adds it to the level that is dropped.
        grid = scaled.shape[-1] // self.backbone.config.patch_size
        patches = tokens.reshape(-1, grid, grid, tokens.shape[-1]).permute(0, 3, 1, 2)
        fine, middle, coarse = (level(patches) for level in self.levels)
        embeddings = (
            self.conv_s0(fine),
            self.conv_s1(middle),
            coarse + self.no_memory_embedding.reshape(1, -1, 1, 1),
        )
        return (*embeddings, patches - self.centre.to(patches.dtype)) if self.for_concepts else embeddings


@lru_cache(maxsize=1)
def centre_of(checkpoint: Checkpoint) -> Tensor:
    """The mean of each channel of the trunk's features, fp32 [1, D, 1, 1], on a seeded picture.

    A ViT's channels have large offsets that are alike in all pictures. Less these, features lose less when they are
    rounded to fp16. Measured on the photos of the golden concepts: a third of the error, and for the worst mask an IoU
    with Meta's of 0.997 instead of 0.990.
    """
    architecture = checkpoint.architecture
    encoder = ImageEncoder(checkpoint.model, torch.zeros(1, architecture.hidden_size, 1, 1)).eval()
    with torch.inference_mode():
        features = encoder(torch.from_numpy(pixels(architecture, 1, seed=0)["PIXELS"]))[-1]
    # Not an inference tensor, which an export could not trace.
    return features.mean((0, 2, 3)).reshape(1, -1, 1, 1).clone().detach()


class ServedImageEncoder(nn.Module):
    """An `ImageEncoder` that returns fp16 features, whatever dtype it computes in."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See `ImageEncoder`."""
        return tuple(feature.half() for feature in self.encoder(pixels))


def features(architecture: Architecture) -> tuple[TensorSpec, ...]:
    """The features: outputs of the image encoder and inputs of the mask decoder."""
    channels, grid = architecture.fpn_hidden_size, architecture.grid_size
    shapes = ((channels // 8, 4 * grid, 4 * grid), (channels // 4, 2 * grid, 2 * grid), (channels, grid, grid))
    return tuple(TensorSpec(name, "float16", (BATCH, *shape)) for name, shape in zip(FEATURES, shapes, strict=True))


def backbone_features(architecture: Architecture) -> TensorSpec:
    """The features of the trunk: an output of the image encoder, and an input of the concept detector."""
    grid = architecture.grid_size
    return TensorSpec(BACKBONE_FEATURES, "float16", (BATCH, architecture.hidden_size, grid, grid))


def spec(architecture: Architecture) -> ComponentSpec:
    """The spec of `ServedImageEncoder`, in the order of its arguments and results."""
    size = architecture.image_size
    outputs = features(architecture)
    if architecture.concepts is not None:
        outputs = (*outputs, backbone_features(architecture))
    names = [tensor.name for tensor in outputs]
    return ComponentSpec(
        model_name=NAME,
        title="image encoder",
        inputs=(TensorSpec("PIXELS", "uint8", (BATCH, size, size, 3)),),
        outputs=outputs,
        tolerances=dict.fromkeys(names, TOLERANCE),
        variants={
            "fp16": Bounds(dict.fromkeys(names, FP16_TOLERANCE), drift=FP16_DRIFT),
            "bf16": Bounds(dict.fromkeys(names, BF16_TOLERANCE), drift=BF16_DRIFT),
            "int8": Bounds(dict.fromkeys(names, INT8_TOLERANCE), drift=INT8_DRIFT, agreement=INT8_AGREEMENT),
        },
    )


def _module(checkpoint: Checkpoint) -> ImageEncoder:
    return ImageEncoder(checkpoint.model, None if checkpoint.concepts is None else centre_of(checkpoint))


def _inputs(architecture: Architecture, references: References) -> Sequence[tuple[str, Arrays]]:
    scores = 2 * 4 * architecture.num_attention_heads * architecture.grid_size**4
    if max(_PARITY_BATCHES) * scores <= _MOST_SCORE_BYTES:
        return [(f"batch of {batch}", pixels(architecture, batch, _PARITY_SEED + batch)) for batch in _PARITY_BATCHES]
    pictures = range(1, sum(_PARITY_BATCHES) + 1)
    return [(f"picture {number}", pixels(architecture, 1, _PARITY_SEED + number)) for number in pictures]


def _sample(architecture: Architecture, references: References) -> Arrays:
    return pixels(architecture, _EXPORT_BATCH, seed=0)


COMPONENT = Component(
    name=NAME,
    spec=spec,
    module=_module,
    served=ServedImageEncoder,
    inputs=_inputs,
    sample=_sample,
    weight=1.0,
    cached=True,
)
