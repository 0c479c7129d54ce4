"""The concept detector: turns an image's backbone features and a concept into its instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.components import concept_prompts, image_encoder, text_encoder
from sam3_export.components.component import Component, References
from sam3_export.components.detector_modules import ConceptDetector, ServedConceptDetector
from sam3_export.spec import BATCH, BF16_DRIFT, BOXES, FP16_DRIFT, INSTANCES, Arrays, Bounds, ComponentSpec, TensorSpec

if TYPE_CHECKING:
    from sam3_export.checkpoint import Checkpoint

NAME = "sam3_concept_detector"
# Mask logits are sent in fp16, which halves them, and compared with PyTorch's in fp32: rounding to 11 bits is 4.9e-4.
TOLERANCES = {"SCORES": 2e-4, "BOXES": 2e-4, "MASK_LOGITS": 1e-3, "PRESENCE": 2e-4}
FP16_TOLERANCES = {"SCORES": 2e-2, "BOXES": 2e-2, "MASK_LOGITS": 5e-2, "PRESENCE": 2e-2}
# Measured on the golden checkpoint: 6e-3, 8e-3, 3e-2 and 3e-3; masks 0.985.
BF16_TOLERANCES = {"SCORES": 5e-2, "BOXES": 5e-2, "MASK_LOGITS": 2e-1, "PRESENCE": 5e-2}
MINIMUM_MASK_IOU, FP16_MINIMUM_MASK_IOU, BF16_MINIMUM_MASK_IOU = 0.99, 0.95, 0.9
# Its time, as a share of the image encoder's: the neck has 0.2 TFLOP, the rest about as much, the encoder 5.2.
_WEIGHT = 0.1
# Differs from the seed of the sample that an artifact is traced on.
_PARITY_SEED = 1000


def spec(architecture: Architecture) -> ComponentSpec:
    """The spec of `ServedConceptDetector`, in the order of its arguments and results."""
    assert architecture.concepts is not None
    text, side = text_encoder.features(architecture), architecture.low_res_size
    return ComponentSpec(
        model_name=NAME,
        title="concept detector",
        inputs=(
            image_encoder.backbone_features(architecture),
            text,
            TensorSpec("TEXT_MASK", "bool", (BATCH, architecture.concepts.text_context_length)),
            TensorSpec("BOX_COORDS", "float32", (BATCH, BOXES, 4)),
            TensorSpec("BOX_LABELS", "int32", (BATCH, BOXES)),
            TensorSpec("RANKS", "int32", (BATCH, INSTANCES)),
        ),
        outputs=(
            TensorSpec("SCORES", "float32", (BATCH, architecture.concepts.num_queries)),
            TensorSpec("BOXES", "float32", (BATCH, INSTANCES, 4)),
            TensorSpec("MASK_LOGITS", "float16", (BATCH, INSTANCES, side, side)),
            TensorSpec("PRESENCE", "float32", (BATCH, 1)),
        ),
        tolerances=TOLERANCES,
        minimum_mask_iou=MINIMUM_MASK_IOU,
        # No int8: that of the encoder saves more, and this keeps the instances right.
        variants={
            "fp16": Bounds(FP16_TOLERANCES, FP16_MINIMUM_MASK_IOU, FP16_DRIFT),
            "bf16": Bounds(BF16_TOLERANCES, BF16_MINIMUM_MASK_IOU, BF16_DRIFT),
        },
    )


def _module(checkpoint: Checkpoint) -> ConceptDetector:
    assert checkpoint.concepts is not None
    return ConceptDetector(checkpoint.concepts, checkpoint.architecture.grid_size, image_encoder.centre_of(checkpoint))


def _features(architecture: Architecture, references: References, batch: int) -> Arrays:
    """The image encoder's reference outputs for all its parity cases, in the dtype in which an artifact gets them."""
    answers = [case.expected[image_encoder.BACKBONE_FEATURES] for case in references[image_encoder.NAME]]
    dtype = image_encoder.backbone_features(architecture).dtype
    return {image_encoder.BACKBONE_FEATURES: np.concatenate(answers)[:batch].astype(dtype)}


def _text_features(architecture: Architecture, batch: int, seed: int) -> Arrays:
    """Features like those of texts, whose scale does not matter: a layer norm precedes them."""
    assert architecture.concepts is not None
    rng = np.random.default_rng(seed)
    return {
        text_encoder.FEATURES: rng.normal(
            0, 1, (batch, architecture.concepts.text_context_length, architecture.fpn_hidden_size)
        ).astype(np.float32)
    }


def _batch(
    architecture: Architecture, references: References, shape: concept_prompts.ConceptShape, seed: int
) -> Arrays:
    return {
        **_features(architecture, references, shape.batch),
        **_text_features(architecture, shape.batch, seed),
        **concept_prompts.prompts(architecture, shape, seed),
    }


def _inputs(architecture: Architecture, references: References) -> Sequence[tuple[str, Arrays]]:
    return [
        (shape.name, _batch(architecture, references, shape, _PARITY_SEED + number))
        for number, shape in enumerate(concept_prompts.PARITY_SHAPES)
    ]


def _sample(architecture: Architecture, references: References) -> Arrays:
    return _batch(architecture, references, concept_prompts.EXPORT_SHAPE, seed=0)


COMPONENT = Component(
    name=NAME,
    spec=spec,
    module=_module,
    served=ServedConceptDetector,
    inputs=_inputs,
    sample=_sample,
    weight=_WEIGHT,
    amplifies_rounding=True,
)
