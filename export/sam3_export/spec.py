"""What each exported component is: its tensors, the axes that vary, and how far it may stray from PyTorch.

The model repository, the parity gate and the exporters all read these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam3_export.architecture import Architecture

IMAGE_ENCODER, MASK_DECODER = "sam3_image_encoder", "sam3_mask_decoder"
# Axes whose length a request chooses; every other axis is a number.
BATCH, POINTS, MASKS = "batch", "points", "masks"
Axis = str | int

# What POINT_LABELS says of a point: a click, a corner of a box, or the padding point that ends every prompt of Meta's
# predictor and takes part in attention. Behind it may stand empty slots, so that prompts of different lengths fit into
# one batch: nothing attends to them, and the answer is that of the prompt without them.
FOREGROUND, BACKGROUND, BOX_FIRST, BOX_SECOND, PADDING, EMPTY = 1, 0, 2, 3, -1, -2


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
class ComponentSpec:
    """One half of SAM 3 as Triton serves it.

    `tolerances` bounds, for each output, the largest absolute difference from PyTorch in fp32,
    as a fraction of the largest magnitude in PyTorch's answer (of 1 where that is smaller).
    """

    model_name: str
    title: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerances: dict[str, float]


# Seen in fp32 with ONNX Runtime: 3e-6 on a tiny network of 4 layers and at SAM 3's own size; with TorchScript 5e-8.
FEATURE_TOLERANCE = 2e-4
LOGIT_TOLERANCE = 2e-4
SCORE_TOLERANCE = 2e-4
# Dynamic quantisation rounds activations and weights to 8 bits. Seen on the demonstration checkpoint: 0.040 at the
# gate, 0.024 on scenes, and masks that agree with those of fp32 by an IoU of 0.993 on average.
INT8_FEATURE_TOLERANCE = 0.08
# The masks of an artifact and of PyTorch, at the network's resolution.
MINIMUM_MASK_IOU = 0.999


def _features(architecture: Architecture) -> tuple[TensorSpec, ...]:
    channels, grid = architecture.fpn_hidden_size, architecture.grid_size
    return (
        TensorSpec("HIGH_RES_FEATURES_0", "float32", (BATCH, channels // 8, 4 * grid, 4 * grid)),
        TensorSpec("HIGH_RES_FEATURES_1", "float32", (BATCH, channels // 4, 2 * grid, 2 * grid)),
        TensorSpec("IMAGE_EMBEDDING", "float32", (BATCH, channels, grid, grid)),
    )


def image_encoder(architecture: Architecture) -> ComponentSpec:
    """The spec of `modules.ImageEncoder`, in the order of its arguments and results."""
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
