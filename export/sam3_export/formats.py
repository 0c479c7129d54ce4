"""Writes a component as ONNX or TorchScript, and runs what was written."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from sam3_export.samples import Arrays
from sam3_export.spec import IMAGE_ENCODER, INT8_FEATURE_TOLERANCE, Axis, ComponentSpec

ONNX_OPSET = 18
_ONNX_TO_NUMPY = {
    "tensor(float)": "float32",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Declared:
    """A tensor as an artifact itself declares it; `axes` has a name or None where the length is open."""

    name: str
    dtype: str
    axes: tuple[Axis | None, ...]


class Artifact(Protocol):
    """A loaded artifact."""

    def declared(self) -> tuple[list[Declared], list[Declared]] | None:
        """Inputs and outputs as the file declares them; None where the format declares none."""

    def run(self, inputs: Arrays) -> Arrays:
        """Inputs to outputs, by their names in the spec."""


class Format(Protocol):
    """One way of writing a component."""

    name: str
    file_name: str

    def suits(self, spec: ComponentSpec) -> bool:
        """Whether there is such an artifact of the component."""

    def tolerances(self, spec: ComponentSpec) -> dict[str, float]:
        """How far its answers may stray from PyTorch's in fp32 (see `ComponentSpec`)."""

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """Exports `module` to `path`, traced on `sample`."""

    def load(self, spec: ComponentSpec, path: Path) -> Artifact:
        """Opens what `write` wrote."""


def tensors(spec: ComponentSpec, arrays: Arrays) -> tuple[torch.Tensor, ...]:
    """The arrays as the module's positional arguments."""
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[tensor.name])) for tensor in spec.inputs)


def run_module(module: nn.Module, spec: ComponentSpec, inputs: Arrays) -> Arrays:
    """Inputs to outputs through a PyTorch module, traced or not."""
    with torch.inference_mode():
        results = module(*tensors(spec, inputs))
    return {tensor.name: result.numpy() for tensor, result in zip(spec.outputs, results, strict=True)}


class Onnx:
    """ONNX through torch.export, one self-contained file."""

    name = "onnx"
    file_name = "model.onnx"

    def suits(self, spec: ComponentSpec) -> bool:
        """See `Format`."""
        return True

    def tolerances(self, spec: ComponentSpec) -> dict[str, float]:
        """See `Format`."""
        return spec.tolerances

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Format`."""
        import onnx_ir

        dynamic_shapes = tuple(dict.fromkeys(tensor.dynamic_axes, torch.export.Dim.DYNAMIC) for tensor in spec.inputs)
        with _quiet(), torch.no_grad():
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
            # Not program.save: above 1.5 GB that puts the weights into a second file. Protobuf holds 2 GB,
            # and SAM 3's encoder in fp32 is 1.8 GB.
            onnx_ir.save(program.model, path)

    def load(self, spec: ComponentSpec, path: Path) -> OnnxArtifact:
        """See `Format`."""
        return OnnxArtifact(path)


class OnnxInt8(Onnx):
    """ONNX whose matrix products run in 8 bits, for CPUs; weights are quantised now, activations when it runs.

    Of the image encoder alone: the mask decoder is small, and its products are not where its time goes.
    """

    name = "onnx-int8"
    file_name = "model.int8.onnx"

    def suits(self, spec: ComponentSpec) -> bool:
        """See `Format`."""
        return spec.model_name == IMAGE_ENCODER

    def tolerances(self, spec: ComponentSpec) -> dict[str, float]:
        """See `Format`."""
        return dict.fromkeys(spec.tolerances, INT8_FEATURE_TOLERANCE)

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Format`; takes the fp32 file beside it where there is one."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        full = path.with_name(Onnx.file_name)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            if not full.exists():
                full = Path(folder) / Onnx.file_name
                super().write(module, spec, sample, full)
            with _quiet(""):
                quantize_dynamic(
                    full,
                    path,
                    op_types_to_quantize=["MatMul"],
                    weight_type=QuantType.QInt8,
                    # A scale for each output channel halves the error at the gate; 7 bits of each weight, or sums
                    # overflow on CPUs without VNNI.
                    per_channel=True,
                    reduce_range=True,
                    # Products of two activations, in attention, stay in fp32.
                    extra_options={"MatMulConstBOnly": True},
                )


class OnnxArtifact:
    """An ONNX file in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Each case is run once: what an arena keeps for the next run is gigabytes at SAM 3's size.
        options.enable_cpu_mem_arena = False
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


class TorchScript:
    """TorchScript by tracing; it declares no names or shapes: arguments go by their order."""

    name = "torchscript"
    file_name = "model.pt"

    def suits(self, spec: ComponentSpec) -> bool:
        """See `Format`."""
        return True

    def tolerances(self, spec: ComponentSpec) -> dict[str, float]:
        """See `Format`."""
        return spec.tolerances

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Format`."""
        with _quiet(), torch.no_grad():
            traced = torch.jit.trace(module, tensors(spec, sample), check_trace=False)
            # Through memory: where the disk fills up, PyTorch's own file writer ends the whole process.
            path.write_bytes(torch.jit.freeze(traced).save_to_buffer())

    def load(self, spec: ComponentSpec, path: Path) -> TorchScriptArtifact:
        """See `Format`."""
        return TorchScriptArtifact(spec, path)


class TorchScriptArtifact:
    """A TorchScript file, on the CPU."""

    def __init__(self, spec: ComponentSpec, path: Path) -> None:
        self.spec = spec
        self.module = torch.jit.load(str(path), map_location="cpu")

    def declared(self) -> None:
        """See `Artifact`."""

    def run(self, inputs: Arrays) -> Arrays:
        """See `Artifact`."""
        return run_module(self.module, self.spec, inputs)


FORMATS: dict[str, Format] = {format_.name: format_ for format_ in (Onnx(), OnnxInt8(), TorchScript())}


def _name_axes(model, spec: ComponentSpec) -> None:  # type: ignore[no-untyped-def]
    """Gives the open axes the spec's names, the same in inputs and outputs, and leaves the others numbers."""
    import onnx_ir

    for values, declared in ((model.graph.inputs, spec.inputs), (model.graph.outputs, spec.outputs)):
        for value, tensor in zip(values, declared, strict=True):
            inferred = value.shape
            if inferred is None or len(inferred) != len(tensor.axes):
                raise RuntimeError(f"the exporter gives {tensor.name} the shape {inferred}")
            for position, axis in enumerate(tensor.axes):
                length = inferred[position]
                if isinstance(length, int) and length != axis:
                    raise RuntimeError(f"the exporter baked axis {position} of {tensor.name} in as {length}")
            value.shape = onnx_ir.Shape(tensor.axes)


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Hides the exporters' advice to their own developers; errors still raise."""
    names = loggers or ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
