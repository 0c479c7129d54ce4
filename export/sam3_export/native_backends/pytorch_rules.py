"""What Triton's C++ backend `pytorch` asks of a config and of the TorchScript file it names.

Which input is which argument: if the names of all inputs are names of forward's arguments, by name; else if all names
end in `__<index>`, by index; else by their order in the config. Outputs: by index, else by order. This project's names
are in capitals, forward's are not, so order it is, and nothing in the backend would notice two that are exchanged.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_export.native_backends import parameters
from sam3_export.native_backends.repository import Finding, Findings, Model

if TYPE_CHECKING:
    import torch

# The newest that PyTorch 2.5 reads, that of Triton 24.10.
NEWEST_FILE_FORMAT = 10
_DATA_TYPES = {f"TYPE_{name}" for name in ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")}
_INDEXED = re.compile(r"__(\d+)$")
_NUMBERS = ("aten::Int", "aten::Float", "aten::Bool", "aten::IntImplicit", "aten::ScalarImplicit", "aten::item")
_ONCE = "INTER_OP_THREAD_COUNT"


@dataclass(frozen=True)
class TorchScriptFile:
    """What a TorchScript file says of itself: forward's arguments (name, type), the number of its results, the
    operators that name a device, and how often the host waits for a number that is a tensor of the device's."""

    format: int
    arguments: tuple[tuple[str, str], ...]
    results: int
    devices: tuple[str, ...]
    waits: int


def read(path: Path) -> TorchScriptFile:
    """Opens the file on the CPU.

    Raises:
        ValueError: it is no TorchScript file.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            record = next(name for name in archive.namelist() if name.endswith("/version"))
            version = int(archive.read(record))
        module = torch.jit.load(str(path), map_location="cpu")
    except (zipfile.BadZipFile, StopIteration, RuntimeError) as error:
        raise ValueError(f"{path.name} is no TorchScript file") from error
    schema = module.forward.schema
    result = schema.returns[0].type
    graph = module.inlined_graph  # held while its nodes are used: it owns them
    devices = [node for node in graph.findAllNodes("prim::Constant") if str(node.output().type()) == "Device"]
    return TorchScriptFile(
        format=version,
        arguments=tuple((one.name, str(one.type)) for one in schema.arguments[1:]),
        results=len(result.elements()) if isinstance(result, torch.TupleType) else 1,
        devices=tuple(sorted({use.user.kind() for node in devices for use in node.output().uses()})),
        waits=sum(_on_device(next(node.inputs())) for kind in _NUMBERS for node in graph.findAllNodes(kind)),
    )


def _on_device(value: torch.Value) -> bool:
    """Whether a tensor is computed from weights or inputs, rather than from sizes alone."""
    pending, seen = [value], set()
    while pending:
        node = pending.pop().node()
        if node in seen or node.kind() == "prim::NumToTensor":
            continue
        seen.add(node)
        if node.kind() in ("prim::Constant", "prim::Param"):
            return True
        pending += [one for one in node.inputs() if str(one.type()) == "Tensor"]
    return False


def findings(model: Model, file: TorchScriptFile) -> Findings:
    """Faults of a config together with its file."""
    name = model.file.name
    if file.format > NEWEST_FILE_FORMAT:
        yield Finding(f"{name} has format {file.format}; PyTorch 2.5 reads {NEWEST_FILE_FORMAT}")
    if file.devices:
        yield Finding(f"{name} names the device it was traced on, in {', '.join(file.devices)}: it runs on no other")
    if file.waits:
        yield Finding(f"{name} makes the host wait {file.waits} times for a number from the GPU")
    for argument, type_ in file.arguments:
        if type_ != "Tensor":
            yield Finding(f"in {name} forward's argument {argument} is of type {type_}, not Tensor")
    yield from _declared(model, file)
    known = {**parameters.PYTORCH, **parameters.STAND_IN, **parameters.OWN}
    for rule in parameters.misread(model.parameters, known, "the backend pytorch"):
        yield Finding(rule)
    if model.config.optimization.HasField("execution_accelerators") or model.config.optimization.HasField("graph"):
        yield Finding("the backend pytorch reads no accelerators and no graph level")


def _declared(model: Model, file: TorchScriptFile) -> Findings:
    """TorchScript knows no shapes and no results' names: Triton completes nothing, all stands in the config."""
    inputs, outputs = model.config.input, model.config.output
    for tensors, kind, count in ((inputs, "inputs", len(file.arguments)), (outputs, "outputs", file.results)):
        if len(tensors) != count:
            yield Finding(f"{len(tensors)} {kind}, where {model.file.name} has {count}")
            return
    for tensor in (*model.declared().inputs, *model.declared().outputs):
        if tensor.data_type not in _DATA_TYPES:
            yield Finding(f"the backend pytorch has no tensors of {tensor.data_type}", tensor.name)
    arguments = [argument for argument, _ in file.arguments]
    names = [tensor.name for tensor in inputs]
    if set(names) <= set(arguments):
        return
    if all(_INDEXED.search(name) for name in names):
        yield from _indexed(names, len(names))
    else:
        for position, (name, argument) in enumerate(zip(names, arguments, strict=True)):
            if name.lower() != argument:
                yield Finding(f"input {position} by order, and forward's argument {position} is {argument}", name)
    if all(_INDEXED.search(tensor.name) for tensor in outputs):
        yield from _indexed([tensor.name for tensor in outputs], len(outputs))


def _indexed(names: list[str], count: int) -> Findings:
    indexes = {name: int(match[1]) for name in names if (match := _INDEXED.search(name))}
    if sorted(indexes.values()) != list(range(count)):
        yield Finding(f"the indexes in the names {', '.join(indexes)} are not 0 to {count - 1}")


def together(models: Iterable[Model]) -> Iterable[tuple[Model, Finding]]:
    """PyTorch takes the number of its inter-op threads once in a process; 24.10 ends at a second try."""
    setting = [model for model in models if model.config.backend == "pytorch" and _ONCE in model.parameters]
    for model in setting[1:]:
        yield model, Finding(f"{_ONCE} is set by {setting[0].name} already, and only one model can")
