"""The formats for PyTorch: TorchScript by tracing. It declares no names or shapes: arguments go by their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from sam3_export.artifacts import quiet, run_module, tensors
from sam3_export.half_precision import half
from sam3_export.host_numbers import keep_on_host
from sam3_export.samples import Arrays
from sam3_export.spec import ComponentSpec, in_fp16


class TorchScript:
    """TorchScript in fp32."""

    name = "torchscript"
    file_name = "model.pt"

    def adapt(self, spec: ComponentSpec) -> ComponentSpec | None:
        """See `Format`."""
        return spec

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Format`."""
        with quiet(), torch.no_grad():
            traced = torch.jit.trace(module, tensors(spec, sample), check_trace=False)
            frozen = torch.jit.freeze(traced)
            keep_on_host(frozen)
            # Through memory: where the disk fills up, PyTorch's own file writer ends the whole process.
            path.write_bytes(frozen.save_to_buffer())

    def load(self, spec: ComponentSpec, path: Path) -> TorchScriptArtifact:
        """See `Format`."""
        return TorchScriptArtifact(spec, path)


class TorchScriptFp16(TorchScript):
    """TorchScript in fp16 (see `half_precision`), for GPUs."""

    name = "torchscript-fp16"
    file_name = "model.fp16.pt"

    def adapt(self, spec: ComponentSpec) -> ComponentSpec | None:
        """See `Format`."""
        return in_fp16(spec)

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Format`."""
        super().write(half(module, own_softmax=False), spec, sample, path)


class TorchScriptArtifact:
    """A TorchScript file, on a GPU where PyTorch finds one, else on the CPU."""

    def __init__(self, spec: ComponentSpec, path: Path) -> None:
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module = torch.jit.load(str(path), map_location=self.device)

    def declared(self) -> None:
        """See `Artifact`."""

    def run(self, inputs: Arrays) -> Arrays:
        """See `Artifact`."""
        if self.device.type != "cpu":
            return run_module(self.module, self.spec, inputs, self.device)
        # The optimising executor would compare all constants with each other, through the mode.
        with torch.jit.optimized_execution(False), _ProductsInFp32():
            return run_module(self.module, self.spec, inputs)


class _ProductsInFp32(TorchDispatchMode):
    """Computes products of fp16 tensors in fp32 and rounds the result: what a GPU does, whose sums are fp32 too.

    PyTorch's own fp16 on a CPU would take an hour for an image at SAM 3's size.
    """

    _PRODUCTS = (
        torch.ops.aten.linear.default,
        torch.ops.aten.matmul.default,
        torch.ops.aten._convolution.default,
        torch.ops.aten.scaled_dot_product_attention.default,
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self._PRODUCTS or args[0].dtype != torch.float16:
            return func(*args, **kwargs)
        args, kwargs = tree_map(lambda value: value.float() if _is_fp16(value) else value, (args, kwargs))
        return func(*args, **kwargs).half()


def _is_fp16(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float16
