"""The formats for PyTorch: TorchScript by tracing. It declares no names or shapes: arguments go by their order."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sam3_export.artifacts import quiet, run_module, tensors
from sam3_export.half_precision import half
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
            # Through memory: where the disk fills up, PyTorch's own file writer ends the whole process.
            path.write_bytes(torch.jit.freeze(traced).save_to_buffer())

    def load(self, spec: ComponentSpec, path: Path) -> TorchScriptArtifact:
        """See `Format`."""
        return TorchScriptArtifact(spec, path)


class TorchScriptFp16(TorchScript):
    """TorchScript in fp16 (see `half_precision`), for GPUs. A CPU runs it too, at a twentieth of the speed of fp32."""

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
        return run_module(self.module, self.spec, inputs, self.device)
