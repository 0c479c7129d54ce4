"""The ONNX formats. An artifact is one self-contained file."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import nn

from sam3_export.artifacts import Declared, quiet, tensors
from sam3_export.fused_attention import fused_attention
from sam3_export.half_precision import half
from sam3_export.spec import Arrays, ComponentSpec

ONNX_OPSET = 18
_ONNX_TO_NUMPY = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
_EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
# Of glibc's <malloc.h>.
_M_MMAP_THRESHOLD = -3


class Onnx:
    """ONNX in fp32, through torch.export, with fused attention."""

    def check_machine(self, parameters: int) -> None:
        """See `Writer`."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`."""
        with fused_attention(module):
            export_onnx(module, spec, sample, path)

    def load(self, spec: ComponentSpec, path: Path) -> OnnxArtifact:
        """See `Writer`."""
        return OnnxArtifact(path)


class OnnxFp16(Onnx):
    """ONNX in fp16 (see `half_precision`), for GPUs. A CPU runs it too: it computes in fp32 and rounds to fp16."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`."""
        # Fused attention keeps its softmax in fp32 itself.
        super().write(half(module, own_softmax=False), spec, sample, path)


class OnnxTensorRT(OnnxFp16):
    """ONNX in fp16 for TensorRT, which does not know the operator of fused attention: it is written out."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`."""
        # The exporter's own decomposition of attention has its softmax in fp16.
        export_onnx(half(module, own_softmax=True), spec, sample, path)


class OnnxArtifact:
    """An ONNX file, loaded by ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Each case runs once, so an arena would keep memory (gigabytes at SAM 3's size) that no later run uses.
        options.enable_cpu_mem_arena = False
        _return_freed_memory()
        options.log_severity_level = 3  # errors only; it warns that the CPU has no kernels for fp16
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def declared(self) -> tuple[list[Declared], list[Declared]]:
        """See `Artifact`."""

        def read(nodes) -> list[Declared]:  # type: ignore[no-untyped-def]
            return [Declared(node.name, _ONNX_TO_NUMPY.get(node.type, node.type), tuple(node.shape)) for node in nodes]

        return read(self.session.get_inputs()), read(self.session.get_outputs())

    def run(self, inputs: Arrays) -> Arrays:
        """See `Artifact`."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))


def _return_freed_memory() -> None:
    """Makes glibc return every freed block of 1 MB or more to the system.

    By default it keeps freed blocks of up to 32 MB for itself, where blocks in use lie between them and it cannot reuse
    them well. At SAM 3's size a run then takes gigabytes more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def export_onnx(module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
    """Exports a module to one file, with the axes that the spec declares."""
    import onnx_ir

    dynamic_shapes = tuple(dict.fromkeys(tensor.dynamic_axes, torch.export.Dim.DYNAMIC) for tensor in spec.inputs)
    with quiet(*_EXPORTERS), torch.no_grad():
        program = torch.onnx.export(
            module,
            tensors(spec, sample),
            dynamo=True,
            opset_version=ONNX_OPSET,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        _name_axes(program.model, spec)
        # Not program.save: above 1.5 GB it writes the weights to a second file. Protobuf allows 2 GB,
        # and SAM 3's encoder in fp32 has 1.8 GB.
        onnx_ir.save(program.model, path)


def _name_axes(model, spec: ComponentSpec) -> None:  # type: ignore[no-untyped-def]
    """Names the dynamic axes as the spec does, in inputs and outputs alike; fixed axes stay numbers."""
    import onnx_ir

    for values, declared in ((model.graph.inputs, spec.inputs), (model.graph.outputs, spec.outputs)):
        for value, tensor in zip(values, declared, strict=True):
            inferred = value.shape
            if inferred is None or len(inferred) != len(tensor.axes):
                raise RuntimeError(f"the exporter gave {tensor.name} the shape {inferred}, not {tensor.axes}")
            for position, axis in enumerate(tensor.axes):
                length = inferred[position]
                if isinstance(length, int) and length != axis:
                    raise RuntimeError(f"the exporter fixed axis {position} of {tensor.name} at {length}")
            value.shape = onnx_ir.Shape(tensor.axes)
