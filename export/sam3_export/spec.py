"""The spec of a component: its tensors, its dynamic axes, and how far it may be from PyTorch.

The components themselves are in `sam3_export.components`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

# Version of the tensors between the models of the repository. Increase it when they change, so that a repository
# refuses artifacts that another version of this project exported.
INTERFACE = 4
# Dynamic axes, whose length depends on the request; every other axis is a number.
BATCH, OBJECTS, POINTS, MASK_INPUTS, MASKS = "batch", "objects", "points", "mask_inputs", "masks"
BOXES, INSTANCES = "boxes", "instances"
Axis = str | int
# Values of tensors, by name.
Arrays = dict[str, np.ndarray]

# Lowest IoU of an fp32 artifact's masks with PyTorch's.
MINIMUM_MASK_IOU = 0.999


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name in Triton, its numpy dtype and its axes, the batch axis first."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Names of the dynamic axes, by position."""
        return {position: axis for position, axis in enumerate(self.axes) if isinstance(axis, str)}


@dataclass(frozen=True)
class Drift:
    """How far an answer to a golden click is, or may be, from PyTorch's in fp32.

    Logits and scores are compared by fractions of a scale: the largest magnitude in PyTorch's answer, and at least 1.

    Attributes:
        logits: the largest difference of low-resolution logits, of scale.
        score: the largest difference of scores, of scale. Scores that pass a sigmoid have the scale 1.
        mask_iou: the lowest IoU of a mask with PyTorch's.
    """

    logits: float
    score: float
    mask_iou: float

    def within(self, bounds: Drift) -> bool:
        """Whether every value is within the bounds; NaN is not."""
        return self.logits <= bounds.logits and self.score <= bounds.score and self.mask_iou >= bounds.mask_iou

    def __str__(self) -> str:
        return f"logits {self.logits:.1e} of scale, scores {self.score:.1e}, mask IoU {self.mask_iou:.4f}"

    @staticmethod
    def worst(drifts: Iterable[Drift]) -> Drift:
        """The worst value of each attribute."""
        logits, scores, ious = zip(*((one.logits, one.score, one.mask_iou) for one in drifts), strict=True)
        return Drift(max(logits), max(scores), min(ious))


@dataclass(frozen=True)
class Agreement:
    """How well the masks of many clicks agree, or must agree, with those of fp32 (`mask_agreement`).

    Attributes:
        mean_iou, lowest_iou: of the masks with PyTorch's.
        masks: how many were compared.
    """

    mean_iou: float
    lowest_iou: float
    masks: int = 0

    def within(self, bounds: Agreement) -> bool:
        """Whether both values are within the bounds; NaN is not."""
        return self.mean_iou >= bounds.mean_iou and self.lowest_iou >= bounds.lowest_iou

    def __str__(self) -> str:
        count = f" of {self.masks} masks" if self.masks else ""
        return f"mask IoU{count}: mean {self.mean_iou:.4f}, lowest {self.lowest_iou:.4f}"


# For each precision, the largest drift of a golden click through a server's encoder and decoder. Wider than in the
# parity check, because GPUs round differently (TF32, the order of sums); a wrong engine is off by whole units.
FP32_DRIFT = Drift(logits=0.01, score=0.01, mask_iou=0.98)
FP16_DRIFT = Drift(logits=0.05, score=0.03, mask_iou=0.95)
BF16_DRIFT = Drift(logits=0.15, score=0.05, mask_iou=0.98)
INT8_DRIFT = Drift(logits=0.25, score=0.1, mask_iou=0.9)
INT8_AGREEMENT = Agreement(mean_iou=0.97, lowest_iou=0.9)


@dataclass(frozen=True)
class Bounds:
    """How far a component in one precision may be from PyTorch in fp32.

    Attributes:
        tolerances: for each output, the largest absolute difference as a fraction of the scale. The scale is the
            largest magnitude in PyTorch's answer, and at least 1.
        minimum_mask_iou: the lowest IoU of a mask with PyTorch's, at the network's resolution.
        drift: the largest drift of a golden click through all components in this precision.
        agreement: how well the masks of many clicks must agree; None if golden clicks suffice.
    """

    tolerances: Mapping[str, float]
    minimum_mask_iou: float = MINIMUM_MASK_IOU
    drift: Drift = FP32_DRIFT
    agreement: Agreement | None = None


@dataclass(frozen=True)
class ComponentSpec:
    """A component as Triton serves it.

    Attributes:
        inputs, outputs: in the order of the module's arguments and results.
        tolerances, minimum_mask_iou, drift, agreement: in this spec's precision, see `Bounds`.
        variants: the bounds in other precisions, by name; it is not exported in a precision that is missing.
    """

    model_name: str
    title: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerances: Mapping[str, float]
    minimum_mask_iou: float = MINIMUM_MASK_IOU
    drift: Drift = FP32_DRIFT
    agreement: Agreement | None = None
    variants: Mapping[str, Bounds] = field(default_factory=dict)

    def in_precision(self, precision: str) -> ComponentSpec | None:
        """The same tensors with the bounds of a precision; None if the component is not exported in it."""
        if precision == "fp32":
            return self
        bounds = self.variants.get(precision)
        if bounds is None:
            return None
        return replace(
            self,
            tolerances=bounds.tolerances,
            minimum_mask_iou=bounds.minimum_mask_iou,
            drift=bounds.drift,
            agreement=bounds.agreement,
        )
