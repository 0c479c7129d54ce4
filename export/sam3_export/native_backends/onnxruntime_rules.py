"""What Triton's C++ backend `onnxruntime` requires of a config and of the ONNX file that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_export.native_backends import accelerators, parameters
from sam3_export.native_backends.repository import Finding, Findings, Model, Tensor, data_type

# The newest versions that ONNX Runtime 1.19 reads, which Triton 24.10 bundles; opsets by operator domain.
NEWEST_IR_VERSION = 10
NEWEST_OPSETS = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5, "com.microsoft": 1}
# Protobuf's limit.
_LARGEST_FILE = 2**31 - 1
_DATA_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "DOUBLE": "TYPE_FP64",
    "STRING": "TYPE_STRING",
    **{name: f"TYPE_{name}" for name in ("BOOL", *(f"{s}INT{bits}" for s in ("", "U") for bits in (8, 16, 32, 64)))},
}


@dataclass(frozen=True)
class OnnxFile:
    """The facts of an ONNX file that the rules need."""

    ir_version: int
    opsets: dict[str, int]
    domains: frozenset[str]
    outside: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(path: Path) -> OnnxFile:
    """Reads everything but the weights.

    Raises:
        ValueError: the file is not an ONNX file, or is larger than 2 GB.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes; protobuf reads 2 GB at most")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path.name} is not an ONNX file") from error

    def tensor(value: onnx.ValueInfoProto) -> Tensor:
        declared = value.type.tensor_type
        data_type = _DATA_TYPES.get(onnx.TensorProto.DataType.Name(declared.elem_type), "TYPE_INVALID")
        return Tensor(value.name, data_type, tuple(axis.dim_value or -1 for axis in declared.shape.dim))

    weights = {weight.name for weight in model.graph.initializer}
    return OnnxFile(
        ir_version=model.ir_version,
        opsets={opset.domain: opset.version for opset in model.opset_import},
        domains=frozenset(node.domain for node in model.graph.node),
        outside=tuple(w.name for w in model.graph.initializer if w.data_location == onnx.TensorProto.EXTERNAL),
        inputs=tuple(tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(tensor(value) for value in model.graph.output),
    )


def findings(model: Model, file: OnnxFile) -> Findings:
    """Rules broken by a config and its file."""
    yield from _file(model, file)
    if any(group.kind == group.KIND_MODEL for group in model.config.instance_group):
        yield Finding("the backend onnxruntime runs an instance group of KIND_MODEL on the CPU")
    yield from _batching(model, file)
    yield from _declared(model, file)
    for rule in parameters.misread(
        model.parameters, {**parameters.ONNXRUNTIME, **parameters.STAND_IN, **parameters.OWN}, "the backend onnxruntime"
    ):
        yield Finding(rule)
    yield from accelerators.findings(model, file.inputs)


def _file(model: Model, file: OnnxFile) -> Findings:
    name = model.file.name
    if file.outside:
        yield Finding(f"{name} keeps weights in another file ({file.outside[0]}, …)")
    if file.ir_version > NEWEST_IR_VERSION:
        yield Finding(f"{name} has IR version {file.ir_version}; ONNX Runtime 1.19 reads {NEWEST_IR_VERSION}")
    for domain, version in file.opsets.items():
        newest = NEWEST_OPSETS.get(domain)
        if newest is not None and version > newest:
            yield Finding(f"{name} has opset {version} of {domain or 'ai.onnx'}; ONNX Runtime 1.19 reads {newest}")
    for domain in sorted(file.domains - NEWEST_OPSETS.keys()):
        yield Finding(f"{name} has operators of {domain}, which ONNX Runtime 1.19 does not know")
    for tensor in (*file.inputs, *file.outputs):
        if tensor.data_type == "TYPE_INVALID":
            yield Finding(f"the backend does not know its data type in {name}", tensor.name)


def _batching(model: Model, file: OnnxFile) -> Findings:
    tensors = (*file.inputs, *file.outputs)
    closed = [tensor for tensor in tensors if tensor.dims[:1] != (-1,)]
    if model.batches:
        for tensor in closed:
            yield Finding(f"max_batch_size > 0 needs an open first axis in {model.file.name}", tensor.name)
    elif not closed and not (model.config.input and model.config.output):
        yield Finding("max_batch_size is 0 and every first axis is open: Triton would set it to 4")


def _declared(model: Model, file: OnnxFile) -> Findings:
    """Checks the tensors in the config, if there are any, against those of the file."""
    inputs, outputs = model.config.input, model.config.output
    if inputs and len(inputs) != len(file.inputs):
        yield Finding(f"the config has {len(inputs)} inputs, {model.file.name} has {len(file.inputs)}")
    for tensor in inputs:
        if tensor.optional and model.batches:
            yield Finding("an input cannot be optional if max_batch_size > 0", tensor.name)
    for declared, own in ((inputs, file.inputs), (outputs, file.outputs)):
        by_name = {tensor.name: tensor for tensor in own}
        for tensor in declared:
            if tensor.name not in by_name:
                yield Finding(f"{model.file.name} has no such tensor", tensor.name)
            else:
                yield from _equal(model, tensor, by_name[tensor.name])


def _equal(model: Model, declared: Any, own: Tensor) -> Findings:
    if data_type(declared) != own.data_type:
        yield Finding(f"{data_type(declared)} in the config, {own.data_type} in {model.file.name}", own.name)
    dims = tuple(declared.reshape.shape if declared.HasField("reshape") else declared.dims)
    axes = (-1, *dims) if model.batches else dims
    # For an input's open axis the backend accepts a number, and then refuses requests of any other length.
    if axes != own.dims:
        yield Finding(f"axes {list(axes)} in the config, {list(own.dims)} in {model.file.name}", own.name)
