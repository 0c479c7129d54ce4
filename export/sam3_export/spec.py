"""What each exported component is: its tensors, the axes that vary, and how far it may stray from PyTorch.

The model repository, the parity gate and the exporters all read these declarations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sam3_export.architecture import Architecture

# Of the tensors between the models of the repository: one more whenever they change, so that the repository refuses
# what another version of this project exported.
INTERFACE = 2
IMAGE_ENCODER, MASK_DECODER = "sam3_image_encoder", "sam3_mask_decoder"
# Axes whose length a request chooses; every other axis is a number.
BATCH, POINTS, MASKS = "batch", "points", "masks"
Axis = str | int

# What POINT_LABELS says of a point: a click, a corner of a box, or the padding point that ends every prompt of Meta's
# predictor and takes part in attention. Behind it may stand empty slots, so that prompts of different lengths fit into
# one batch: nothing attends to them, and the answer is that of the prompt without them.
FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING, EMPTY = 1, 0, 2, 3, -1, -2

# In fp32, of the masks of an artifact and of PyTorch.
MINIMUM_MASK_IOU = 0.999


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name in Triton, its numpy dtype and its axes, the batch axis first."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Position and name of the axes that vary."""
        return {position: axis for position, axis in enumerate(self.axes) if isinstance(axis, str)}


@dataclass(frozen=True)
class Drift:
    """How far an answer to a golden click is from PyTorch's in fp32, or may be.

    Attributes:
        logits: the largest difference of low-resolution logits, as a fraction of the largest magnitude in PyTorch's.
        score: the largest difference of scores.
        mask_iou: the lowest IoU of a mask with PyTorch's.
    """

    logits: float
    score: float
    mask_iou: float

    def within(self, bounds: Drift) -> bool:
        """Whether it is no farther; NaN is."""
        return self.logits <= bounds.logits and self.score <= bounds.score and self.mask_iou >= bounds.mask_iou

    def __str__(self) -> str:
        return f"logits {self.logits:.1e} of scale, scores {self.score:.1e}, mask IoU {self.mask_iou:.4f}"

    @staticmethod
    def worst(drifts: Iterable[Drift]) -> Drift:
        """The worst of several, in each respect."""
        logits, scores, ious = zip(*((one.logits, one.score, one.mask_iou) for one in drifts), strict=True)
        return Drift(max(logits), max(scores), min(ious))


# In each format's precision, both halves one after the other: what a server may do to a golden click. Wider than at the
# gate, since a GPU rounds another way (TF32, other orders of sums); an engine that is wrong is off by whole units.
FP32_DRIFT = Drift(logits=0.01, score=0.01, mask_iou=0.98)
FP16_DRIFT = Drift(logits=0.05, score=0.03, mask_iou=0.95)
INT8_DRIFT = Drift(logits=0.25, score=0.1, mask_iou=0.85)


@dataclass(frozen=True)
class ComponentSpec:
    """One half of SAM 3 as Triton serves it.

    `tolerances` bounds, for each output, the largest absolute difference from PyTorch in fp32,
    as a fraction of the largest magnitude in PyTorch's answer (of 1 where that is smaller); `minimum_mask_iou` the IoU
    of each mask with PyTorch's, at the network's resolution. `drift` bounds a golden click through both halves.
    """

    model_name: str
    title: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerances: dict[str, float]
    minimum_mask_iou: float = MINIMUM_MASK_IOU
    drift: Drift = FP32_DRIFT


# Features travel and are cached in fp16, in every format: half the memory and half the copies. They are compared
# with PyTorch's in fp32, so this is the rounding to 11 bits (4.9e-4 of a value), and what the arithmetic adds. Seen
# of that: 3e-6 with ONNX Runtime, on a tiny network of 4 layers and at SAM 3's own size; 5e-8 with TorchScript.
FEATURE_TOLERANCE = 6e-4
LOGIT_TOLERANCE = 2e-4
SCORE_TOLERANCE = 2e-4
# fp16 rounds to 11 bits in every layer. Seen: 2e-3 on the demonstration checkpoint.
FP16_TOLERANCES = {"features": 2e-2, "MASK_LOGITS": 2e-2, "SCORES": 1e-2}
# Dynamic quantisation rounds activations and weights to 8 bits. Seen on the demonstration checkpoint: 0.061 at the
# gate, 0.024 on scenes, and masks that agree with those of fp32 by an IoU of 0.993 on average.
INT8_FEATURE_TOLERANCE = 0.1
FP16_MINIMUM_MASK_IOU = 0.98

FEATURES = ("HIGH_RES_FEATURES_0", "HIGH_RES_FEATURES_1", "IMAGE_EMBEDDING")


def in_fp16(spec: ComponentSpec) -> ComponentSpec:
    """The spec of a component computed in fp16: the same tensors, the tolerances of fp16."""
    return replace(
        spec,
        tolerances={name: FP16_TOLERANCES.get(name, FP16_TOLERANCES["features"]) for name in spec.tolerances},
        minimum_mask_iou=FP16_MINIMUM_MASK_IOU,
        drift=FP16_DRIFT,
    )


def in_int8(spec: ComponentSpec) -> ComponentSpec:
    """The spec of a component with products in 8 bits: the same tensors, the tolerances of int8."""
    return replace(spec, tolerances=dict.fromkeys(spec.tolerances, INT8_FEATURE_TOLERANCE), drift=INT8_DRIFT)


def _features(architecture: Architecture) -> tuple[TensorSpec, ...]:
    channels, grid = architecture.fpn_hidden_size, architecture.grid_size
    shapes = ((channels // 8, 4 * grid, 4 * grid), (channels // 4, 2 * grid, 2 * grid), (channels, grid, grid))
    return tuple(TensorSpec(name, "float16", (BATCH, *shape)) for name, shape in zip(FEATURES, shapes, strict=True))


def image_encoder(architecture: Architecture) -> ComponentSpec:
    """The spec of `modules.ServedImageEncoder`, in the order of its arguments and results."""
    size = architecture.image_size
    features = _features(architecture)
    return ComponentSpec(
        model_name=IMAGE_ENCODER,
        title="image encoder",
        inputs=(TensorSpec("PIXELS", "uint8", (BATCH, size, size, 3)),),
        outputs=features,
        tolerances=dict.fromkeys((tensor.name for tensor in features), FEATURE_TOLERANCE),
    )


def mask_decoder(architecture: Architecture) -> ComponentSpec:
    """The spec of `modules.MaskDecoder`, in the order of its arguments and results."""
    side = architecture.low_res_size
    high_res_0, high_res_1, embedding = _features(architecture)
    return ComponentSpec(
        model_name=MASK_DECODER,
        title="mask decoder",
        inputs=(
            embedding,
            high_res_0,
            high_res_1,
            TensorSpec("POINT_COORDS", "float32", (BATCH, POINTS, 2)),
            TensorSpec("POINT_LABELS", "int32", (BATCH, POINTS)),
            TensorSpec("MASK_INPUT", "float32", (BATCH, 1, side, side)),
            TensorSpec("HAS_MASK_INPUT", "bool", (BATCH, 1)),
            TensorSpec("MASK_TOKENS", "int32", (BATCH, MASKS)),
        ),
        outputs=(
            TensorSpec("MASK_LOGITS", "float32", (BATCH, MASKS, side, side)),
            TensorSpec("SCORES", "float32", (BATCH, MASKS)),
        ),
        tolerances={"MASK_LOGITS": LOGIT_TOLERANCE, "SCORES": SCORE_TOLERANCE},
    )
