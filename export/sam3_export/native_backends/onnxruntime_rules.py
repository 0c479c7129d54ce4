"""What Triton's C++ backend `onnxruntime` asks of a config and of the ONNX file it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam3_export.native_backends import accelerators, parameters
from sam3_export.native_backends.core_rules import fits
from sam3_export.native_backends.repository import Finding, Findings, Model, Signature, Tensor

# What ONNX Runtime 1.19, that of Triton 24.10, reads: IR version, and for each domain of operators the opset.
NEWEST_IR_VERSION = 10
NEWEST_OPSETS = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5, "com.microsoft": 1}
# Protobuf reads no larger message.
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
    """What an ONNX file says of itself; tensors with their batch axis."""

    ir_version: int
    opsets: dict[str, int]
    domains: frozenset[str]
    outside: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(path: Path) -> OnnxFile:
    """Reads all but the weights.

    Raises:
        ValueError: it is no ONNX file, or too large for one.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes; protobuf holds 2 GB")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path.name} is no ONNX file") from error

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


def signature(model: Model, file: OnnxFile) -> Signature:
    """The config's own tensors, or where it has none the file's: Triton completes them so."""
    declared = model.declared()
    skip = 1 if model.batches else 0

    def completed(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(Tensor(one.name, one.data_type, one.dims[skip:]) for one in tensors)

    return Signature(declared.inputs or completed(file.inputs), declared.outputs or completed(file.outputs))


def findings(model: Model, file: OnnxFile) -> Findings:
    """Faults of a config together with its file."""
    yield from _file(model, file)
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
            yield Finding(f"in {name} it has a data type that the backend does not know", tensor.name)


def _batching(model: Model, file: OnnxFile) -> Findings:
    tensors = (*file.inputs, *file.outputs)
    closed = [tensor for tensor in tensors if tensor.dims[:1] != (-1,)]
    if model.batches:
        for tensor in closed:
            yield Finding(f"max_batch_size > 0, and in {model.file.name} the first axis is not open", tensor.name)
    elif not closed and not (model.config.input and model.config.output):
        yield Finding("max_batch_size is 0 and every first axis is open: Triton would set 4 by itself")


def _declared(model: Model, file: OnnxFile) -> Findings:
    declared = model.declared()
    if declared.inputs and len(declared.inputs) != len(file.inputs):
        yield Finding(f"{len(declared.inputs)} inputs, where {model.file.name} has {len(file.inputs)}")
    for tensors, own, protos in (
        (declared.inputs, file.inputs, model.config.input),
        (declared.outputs, file.outputs, model.config.output),
    ):
        by_name = {tensor.name: tensor for tensor in own}
        for tensor, proto in zip(tensors, protos, strict=True):
            if tensor.optional and model.batches:
                yield Finding("an optional input of a model that batches", tensor.name)
            found = by_name.get(tensor.name)
            if found is None:
                yield Finding(f"{model.file.name} has no such tensor", tensor.name)
                continue
            if tensor.data_type != found.data_type:
                yield Finding(f"{tensor.data_type}, in {model.file.name} {found.data_type}", tensor.name)
            dims = tuple(proto.reshape.shape) if proto.HasField("reshape") else tensor.dims
            full = (-1, *dims) if model.batches else dims
            # Of inputs the backend takes a number for an open axis; then it refuses every other length at run time.
            if full != found.dims:
                more = "" if fits(full, found.dims) else ", which never fits"
                yield Finding(f"axes {list(full)}, in {model.file.name} {list(found.dims)}{more}", tensor.name)
