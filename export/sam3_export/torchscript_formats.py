"""The TorchScript formats, made by tracing. A file declares neither names nor shapes: arguments go by their order."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sam3_export.artifacts import quiet, run_module, tensors
from sam3_export.errors import ExportError
from sam3_export.half_precision import half
from sam3_export.host_numbers import keep_on_host
from sam3_export.spec import Arrays, ComponentSpec


class TorchScript:
    """TorchScript in fp32."""

    def check_machine(self, parameters: int) -> None:
        """See `Writer`."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`."""
        self._trace(module, spec, sample, path, torch.device("cpu"))

    def _trace(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path, device: torch.device) -> None:
        inputs = tuple(tensor.to(device) for tensor in tensors(spec, sample))
        with quiet(), torch.no_grad():
            traced = torch.jit.trace(module, inputs, check_trace=False)
            frozen = torch.jit.freeze(traced)
            keep_on_host(frozen)
            # Through memory: on a full disk, PyTorch's own file writer ends the whole process.
            path.write_bytes(frozen.save_to_buffer())

    def load(self, spec: ComponentSpec, path: Path) -> TorchScriptArtifact:
        """See `Writer`."""
        return TorchScriptArtifact(spec, path)


class TorchScriptFp16(TorchScript):
    """TorchScript in fp16 (see `half_precision`), for GPUs.

    Tracing runs the network, and PyTorch's fp16 is slow on most CPUs (1.5 GFLOP/s on one with AVX-512): without a GPU,
    SAM 3's own size would take hours.
    """

    name = "torchscript-fp16"
    dtype = torch.float16
    largest_on_slow_cpu = 50_000_000
    advice = "export this format on a machine with a GPU and a CUDA build of PyTorch"

    def check_machine(self, parameters: int) -> None:
        """See `Writer`."""
        if not self._is_fast() and parameters > self.largest_on_slow_cpu:
            precision = self.name.removeprefix("torchscript-")
            raise ExportError(
                f"{self.name}: a network of {parameters / 1e6:.0f} M parameters takes hours in {precision} on this "
                f"CPU; {self.advice}"
            )

    def _is_fast(self) -> bool:
        """Whether PyTorch has fast kernels for this precision here."""
        return _device().type != "cpu"

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`."""
        device = _device()
        self._trace(half(module, own_softmax=False, dtype=self.dtype).to(device), spec, sample, path, device)


class TorchScriptBf16(TorchScriptFp16):
    """TorchScript in bf16 (see `half_precision`), for GPUs, and CPUs with instructions for it."""

    name = "torchscript-bf16"
    dtype = torch.bfloat16
    advice = "export this format on a machine with AVX-512, or with a GPU and a CUDA build of PyTorch"

    def _is_fast(self) -> bool:
        return super()._is_fast() or has_fast_bf16()


class TorchScriptArtifact:
    """A TorchScript file, loaded on a GPU if PyTorch finds one, else on the CPU."""

    def __init__(self, spec: ComponentSpec, path: Path) -> None:
        self.spec = spec
        self.device = _device()
        self.module = torch.jit.load(str(path), map_location=self.device)

    def declared(self) -> None:
        """See `Artifact`."""

    def run(self, inputs: Arrays) -> Arrays:
        """See `Artifact`."""
        with torch.jit.optimized_execution(False):  # as the profiles serve it
            return run_module(self.module, self.spec, inputs, self.device)


def has_fast_bf16() -> bool:
    """Whether oneDNN multiplies in bf16 on this CPU. On x86 it needs AVX-512, but not its bf16 instructions."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
