"""The description of a component, from which `sam3-export` exports and checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sam3_export.architecture import Architecture
from sam3_export.spec import Arrays, ComponentSpec

if TYPE_CHECKING:
    from sam3_export.checkpoint import Checkpoint


@dataclass(frozen=True)
class Case:
    """A batch of inputs of a component, and its PyTorch module's outputs for them in fp32."""

    name: str
    inputs: Arrays
    expected: Arrays

    @property
    def batch(self) -> int:
        """Number of images or prompts."""
        return len(next(iter(self.inputs.values())))


# The cases of the components earlier in the list, by model name: their outputs are inputs of later components.
References = Mapping[str, Sequence[Case]]


@dataclass(frozen=True)
class Component:
    """A part of SAM 3 that Triton serves as a separate model.

    Attributes:
        name: of the model in Triton, and of its folder in the model repository.
        spec: its tensors, and the bounds of its parity check.
        module: the part of the network, in fp32, whose outputs are the reference for the parity check.
        served: makes the module that is exported from it, if they differ (for example, in rounding features to fp16).
        inputs: named inputs for the parity check, in fp32.
        sample: the inputs that an artifact is traced on: a batch of two, because tracing bakes in a batch of one.
        weight: its time for one image or prompt, as a share of the image encoder's; for the time estimate.
        cached: whether the embedding cache keeps its outputs.
        amplifies_rounding: whether some weights make rounding grow beyond the spec's tolerances in fp32, so that the
            parity check has to widen them. That takes a run of all inputs in fp64.
    """

    name: str
    spec: Callable[[Architecture], ComponentSpec]
    module: Callable[[Checkpoint], nn.Module]
    inputs: Callable[[Architecture, References], Sequence[tuple[str, Arrays]]]
    sample: Callable[[Architecture, References], Arrays]
    served: Callable[[Any], nn.Module] = lambda module: module
    weight: float = 0.0
    cached: bool = False
    amplifies_rounding: bool = False
