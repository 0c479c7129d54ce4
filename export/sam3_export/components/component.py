"""What `sam3-export` has to know of a component."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sam3_export.architecture import Architecture
from sam3_export.spec import Arrays, ComponentSpec

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel


@dataclass(frozen=True)
class Case:
    """Inputs of a component, a batch of any size, and what its PyTorch module answers to them in fp32."""

    name: str
    inputs: Arrays
    expected: Arrays

    @property
    def batch(self) -> int:
        """How many images or prompts."""
        return len(next(iter(self.inputs.values())))


# The cases of the components that come earlier in the list, by model name: what they answer is input to later ones.
References = Mapping[str, Sequence[Case]]


@dataclass(frozen=True)
class Component:
    """A part of SAM 3 that Triton serves as a model of its own.

    Attributes:
        name: of the model in Triton, and of its folder in the model repository.
        title: for people.
        spec: its tensors, and the bounds of its parity gate.
        module: the part of the network, in fp32, that answers the parity cases.
        served: the same as it is exported, where that differs (features rounded to fp16, say).
        inputs: named inputs for the parity gate, in fp32.
        sample: the inputs that an artifact is traced on: a batch of two, since a batch of one would be baked in.
        weight: its time for one image or prompt, as a share of the image encoder's; for the time estimate.
        cached: whether the embedding cache keeps its outputs.
    """

    name: str
    title: str
    spec: Callable[[Architecture], ComponentSpec]
    module: Callable[[Sam3TrackerModel], nn.Module]
    inputs: Callable[[Architecture, References], Sequence[tuple[str, Arrays]]]
    sample: Callable[[Architecture, References], Arrays]
    served: Callable[[Any], nn.Module] = lambda module: module
    weight: float = 0.0
    cached: bool = False
