"""What Triton's C++ backend `pytorch` requires of a config and of the TorchScript file that it names.

The backend assigns inputs to forward's arguments by name if every input is named like an argument, else by index if
every name ends in `__<index>`, else by their order in the config. It assigns outputs by index, else by order. This
project's tensors have upper-case names and forward's arguments lower-case ones, so the order decides, and the backend
would not notice two exchanged tensors.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_export.native_backends import parameters
from sam3_export.native_backends.repository import Finding, Findings, Model, data_type

if TYPE_CHECKING:
    import torch

# The newest version that PyTorch 2.5 reads, which Triton 24.10 bundles.
NEWEST_FILE_FORMAT = 10
_DATA_TYPES = {f"TYPE_{name}" for name in ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")}
_INDEXED = re.compile(r"__(\d+)$")
_NUMBERS = ("aten::Int", "aten::Float", "aten::Bool", "aten::IntImplicit", "aten::ScalarImplicit", "aten::item")
_ONCE = "INTER_OP_THREAD_COUNT"


@dataclass(frozen=True)
class TorchScriptFile:
    """The facts of a TorchScript file that the rules need: forward's arguments (name, type), the number of its results,
    the operators that name a device, and how often the host waits for a number that the device computes."""

    format: int
    arguments: tuple[tuple[str, str], ...]
    results: int
    devices: tuple[str, ...]
    waits: int


def read(path: Path) -> TorchScriptFile:
    """Opens the file on the CPU.

    Raises:
        ValueError: the file is not a TorchScript file.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            record = next(name for name in archive.namelist() if name.endswith("/version"))
            version = int(archive.read(record))
        module = torch.jit.load(str(path), map_location="cpu")
    except (zipfile.BadZipFile, StopIteration, RuntimeError) as error:
        raise ValueError(f"{path.name} is not a TorchScript file") from error
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
    """Rules broken by a config and its file."""
    name = model.file.name
    if file.format > NEWEST_FILE_FORMAT:
        yield Finding(f"{name} has format {file.format}; PyTorch 2.5 reads {NEWEST_FILE_FORMAT} at most")
    if file.devices:
        yield Finding(f"{name} runs only on the device that it was traced on, named in {', '.join(file.devices)}")
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
        yield Finding("the backend pytorch reads neither accelerators nor a graph level")


def _declared(model: Model, file: TorchScriptFile) -> Findings:
    """Checks the tensors in the config: Triton completes none, as TorchScript has neither shapes nor result names."""
    inputs, outputs = model.config.input, model.config.output
    for tensors, kind, count in ((inputs, "inputs", len(file.arguments)), (outputs, "outputs", file.results)):
        if len(tensors) != count:
            yield Finding(f"the config has {len(tensors)} {kind}, {model.file.name} has {count}")
            return
    for tensor in (*inputs, *outputs):
        if data_type(tensor) not in _DATA_TYPES:
            yield Finding(f"the backend pytorch has no tensors of {data_type(tensor)}", tensor.name)
    arguments = [argument for argument, _ in file.arguments]
    names = [tensor.name for tensor in inputs]
    if set(names) <= set(arguments):
        return
    if all(_INDEXED.search(name) for name in names):
        yield from _indexed(names, len(names))
    else:
        for position, (name, argument) in enumerate(zip(names, arguments, strict=True)):
            if name.lower() != argument:
                yield Finding(f"it is input {position}, but forward's argument {position} is {argument}", name)
    if all(_INDEXED.search(tensor.name) for tensor in outputs):
        yield from _indexed([tensor.name for tensor in outputs], len(outputs))


def _indexed(names: list[str], count: int) -> Findings:
    indexes = {name: int(match[1]) for name in names if (match := _INDEXED.search(name))}
    if sorted(indexes.values()) != list(range(count)):
        yield Finding(f"the indexes in the names {', '.join(indexes)} must be 0 to {count - 1}")


def together(models: Iterable[Model]) -> Iterable[tuple[Model, Finding]]:
    """PyTorch accepts a number of inter-op threads only once in a process; Triton 24.10 exits at the second attempt."""
    setting = [model for model in models if model.config.backend == "pytorch" and _ONCE in model.parameters]
    for model in setting[1:]:
        yield model, Finding(f"{setting[0].name} sets {_ONCE} already, and only one model may")
