"""Artifacts: components exported to files in some format, which can be loaded and run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from sam3_export.spec import Arrays, Axis, ComponentSpec


@dataclass(frozen=True)
class Declared:
    """A tensor as an artifact declares it. An axis is a number, or a name or None if its length is dynamic."""

    name: str
    dtype: str
    axes: tuple[Axis | None, ...]


class Artifact(Protocol):
    """A loaded artifact."""

    def declared(self) -> tuple[list[Declared], list[Declared]] | None:
        """The inputs and outputs that the file declares; None if the format declares none."""

    def run(self, inputs: Arrays) -> Arrays:
        """Computes the outputs for these inputs, both by their names in the spec."""


class Writer(Protocol):
    """Writes and loads the artifacts of one format."""

    def check_machine(self, parameters: int) -> None:
        """Raises an ExportError if this machine cannot export a network with that many parameters."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """Exports an fp32 module to `path`, traced on `sample`; `spec` is already adapted (see `Format.adapt`)."""

    def load(self, spec: ComponentSpec, path: Path) -> Artifact:
        """Loads a file that `write` made."""


def cast(arrays: Arrays, spec: ComponentSpec) -> Arrays:
    """The inputs of a component, converted to its spec's dtypes."""
    return {tensor.name: arrays[tensor.name].astype(tensor.dtype, copy=False) for tensor in spec.inputs}


def tensors(spec: ComponentSpec, arrays: Arrays) -> tuple[torch.Tensor, ...]:
    """The arrays as the module's positional arguments."""
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[tensor.name])) for tensor in spec.inputs)


def run_module(
    module: nn.Module, spec: ComponentSpec, inputs: Arrays, device: torch.device = torch.device("cpu")
) -> Arrays:
    """Runs a PyTorch module, traced or not, whose weights are on `device`."""
    with torch.inference_mode():
        results = module(*(tensor.to(device) for tensor in tensors(spec, inputs)))
    return {tensor.name: result.cpu().numpy() for tensor, result in zip(spec.outputs, results, strict=True)}


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Hides the exporters' warnings, which users cannot act on; errors still raise."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
