"""The check that every artifact must pass before it is installed: its answers agree with the PyTorch module's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from sam3_export.artifacts import Artifact, Declared, cast, run_module
from sam3_export.candidates import in_order_of
from sam3_export.components import Case
from sam3_export.errors import ExportError
from sam3_export.spec import Arrays, ComponentSpec, TensorSpec

# A right artifact's distance from PyTorch in fp32, in units of PyTorch's own from fp64. Measured: 0.4 to 1.4 for ONNX
# Runtime's mask decoder at SAM 3's own size, in 9 networks with random weights of 0.5 to 3 times the usual scale, where
# PyTorch's own distance was 3e-7 to 1e-4 (docs/full-size.md). The same network in fp16 is about 8000 units away.
_ROUNDING_FACTOR = 8


class ParityError(ExportError):
    """An artifact's answers differ from the PyTorch module's."""


@dataclass
class Parity:
    """The measured differences, and the artifact's answer to each case.

    `differences` holds, for each case and output, the largest difference as a fraction of the scale (see `Bounds`).
    """

    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    minimum_mask_iou: float | None = None
    answers: dict[str, Arrays] = field(default_factory=dict)


def check(
    artifact: Artifact,
    spec: ComponentSpec,
    cases: Sequence[Case],
    mask_size: int,
    report: Callable[[str], None] = lambda case: None,
) -> Parity:
    """Compares an artifact with PyTorch in fp32: names, dtypes, shapes, values, then the masks.

    Args:
        spec: of the artifact, in its format (see `Format.adapt`).
        mask_size: side in pixels to which logits are resized before their masks are compared.
        report: called with the name of each case before it runs.

    Raises:
        ParityError: the first difference beyond the tolerances.
    """
    _check_declared(artifact, spec)
    parity = Parity()
    for case in cases:
        report(case.name)
        answer = artifact.run(cast(case.inputs, spec))
        parity.answers[case.name] = answer
        answer = in_order_of(case.expected, answer)
        parity.differences[case.name] = {
            tensor.name: _compare(tensor, spec, case, answer.get(tensor.name)) for tensor in spec.outputs
        }
        if "MASK_LOGITS" in answer:
            iou = mask_iou(answer["MASK_LOGITS"], case.expected["MASK_LOGITS"], mask_size)
            parity.minimum_mask_iou = min(iou, parity.minimum_mask_iou or 1.0)
            if not iou >= spec.minimum_mask_iou:
                raise ParityError(
                    f"{spec.title}, {case.name}: a mask's IoU with PyTorch's is {iou:.4f}, "
                    f"below {spec.minimum_mask_iou}"
                )
    return parity


def widen(spec: ComponentSpec, module: nn.Module, cases: Sequence[Case], mask_size: int) -> ComponentSpec:
    """The spec with bounds wide enough for a right artifact of these weights.

    How much rounding grows in a network depends on its weights. PyTorch's own answers in fp32 differ from those in fp64
    by as much as a right artifact's do, so a bound is at least `_ROUNDING_FACTOR` times that difference. It is at most
    the bound of the golden clicks, which would refuse the artifact anyway.

    Args:
        spec: in fp32.
        module: in fp32, of which the cases are.
        mask_size: as for `check`.
    """
    twin = copy.deepcopy(module).double()
    own, iou = dict.fromkeys(spec.tolerances, 0.0), 1.0
    for case in cases:
        exact = in_order_of(case.expected, run_module(twin, spec, case.inputs))
        own = {name: max(own[name], _difference(exact[name], case.expected[name])) for name in own}
        if "MASK_LOGITS" in exact:
            iou = min(iou, mask_iou(exact["MASK_LOGITS"], case.expected["MASK_LOGITS"], mask_size))
    most = {name: min(_ROUNDING_FACTOR * own[name], spec.drift.logits) for name in own}
    least_iou = max(1 - _ROUNDING_FACTOR * (1 - iou), spec.drift.mask_iou)
    return replace(
        spec,
        tolerances={name: max(least, most[name]) for name, least in spec.tolerances.items()},
        minimum_mask_iou=min(spec.minimum_mask_iou, least_iou),
    )


def mask_iou(left: np.ndarray, right: np.ndarray, size: int) -> float:
    """The lowest IoU between the masks of two arrays of logits [..., h, w], resized to `size` pixels."""
    masks = [
        torch.nn.functional.interpolate(
            torch.from_numpy(logits.reshape(-1, 1, *logits.shape[-2:])),
            (size, size),
            mode="bilinear",
            align_corners=False,
        ).numpy()
        > 0
        for logits in (left, right)
    ]
    return float(ious(*masks).min())


def ious(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The IoU of each pair of masks, bool [..., h, w]; 1 where both are empty."""
    shared, either = (count(left, right).sum(axis=(-2, -1)) for count in (np.logical_and, np.logical_or))
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def _check_declared(artifact: Artifact, spec: ComponentSpec) -> None:
    declared = artifact.declared()
    if declared is None:
        return
    for kind, found, wanted in (("input", declared[0], spec.inputs), ("output", declared[1], spec.outputs)):
        expected = [Declared(tensor.name, tensor.dtype, tensor.axes) for tensor in wanted]
        if found != expected:
            raise ParityError(f"{spec.title}: declares the {kind}s {found}, but the spec says {expected}")


def _compare(tensor: TensorSpec, spec: ComponentSpec, case: Case, found: np.ndarray | None) -> float:
    where = f"{spec.title}, {case.name}: {tensor.name}"
    expected = case.expected[tensor.name]
    if found is None:
        raise ParityError(f"{where} is missing from the answer")
    if found.dtype != np.dtype(tensor.dtype):
        raise ParityError(f"{where} has the dtype {found.dtype}, not {tensor.dtype}")
    if found.shape != expected.shape:
        raise ParityError(f"{where} has the shape {found.shape}, not {expected.shape}")
    difference = _difference(found, expected)
    tolerance = spec.tolerances[tensor.name]
    if not difference <= tolerance:  # NaN fails too
        raise ParityError(f"{where} differs from PyTorch by {difference:.2e} of its scale, more than {tolerance:.1e}")
    return difference


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a fraction of the scale."""
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found.astype(np.float64) - expected).max()) / scale
