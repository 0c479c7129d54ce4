"""What the backend `onnxruntime` reads under `optimization`, and TensorRT's shapes among it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sam3_export.native_backends import parameters
from sam3_export.native_backends.core_rules import fits
from sam3_export.native_backends.repository import Finding, Findings, Model, Tensor

_SHAPES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def findings(model: Model, inputs: Iterable[Tensor]) -> Findings:
    """Faults of `optimization`; `inputs` are the model file's, with the batch axis."""
    optimization = model.config.optimization
    if optimization.HasField("graph") and optimization.graph.level not in (-1, 0, 1, 2):
        yield Finding(f"the graph level {optimization.graph.level} is none; -1 is basic, 1 extended, 2 none, 0 all")
    if optimization.HasField("cuda"):
        yield Finding("optimization.cuda is read by the backend tensorrt alone")
    accelerators = optimization.execution_accelerators
    for accelerator in accelerators.cpu_execution_accelerator:
        if accelerator.name != "openvino":
            yield Finding(f"there is no accelerator {accelerator.name!r} for CPUs")
    if accelerators.gpu_execution_accelerator and not _on_gpu(model):
        yield Finding("accelerators for GPUs are read for instance groups of KIND_GPU alone")
    for accelerator in accelerators.gpu_execution_accelerator:
        given = dict(accelerator.parameters)
        if accelerator.name == "tensorrt":
            for rule in parameters.misread(given, parameters.TENSORRT, "the accelerator tensorrt"):
                yield Finding(rule)
            yield from _shapes(model, given, tuple(inputs))
        elif accelerator.name == "cuda":
            for name in sorted(given.keys() & set(parameters.CUDA_ONLY_IN_PARAMETERS)):
                yield Finding(f"{name!r} of the accelerator cuda is overwritten; it goes under the config's parameters")
                del given[name]
            for rule in parameters.misread(given, parameters.CUDA, "the accelerator cuda"):
                yield Finding(rule)
        else:
            yield Finding(f"there is no accelerator {accelerator.name!r} for GPUs")


def _on_gpu(model: Model) -> bool:
    return any(group.Kind.Name(group.kind) in ("KIND_GPU", "KIND_AUTO") for group in model.config.instance_group)


def _shapes(model: Model, given: Mapping[str, str], inputs: tuple[Tensor, ...]) -> Findings:
    """TensorRT's profile: a smallest, a usual and a largest shape of every input that has an open axis."""
    if not any(name in given for name in _SHAPES):
        return
    for name in _SHAPES:
        if name not in given:
            yield Finding(f"TensorRT wants {', '.join(_SHAPES)} together; {name} is missing")
            return
    smallest, usual, largest = (_parse(given[name]) for name in _SHAPES)
    own = {tensor.name: tensor for tensor in inputs}
    for name in sorted(smallest.keys() | usual.keys() | largest.keys() | _open(inputs)):
        shapes = [shapes.get(name) for shapes in (smallest, usual, largest)]
        if name not in own:
            yield Finding(f"TensorRT's shapes name an input that {model.file.name} does not have", name)
        elif not all(shapes):
            yield Finding("TensorRT's shapes name it in some of the three, or not at all", name)
        else:
            yield from _shape(model, own[name], [shape for shape in shapes if shape])


def _open(inputs: tuple[Tensor, ...]) -> set[str]:
    return {tensor.name for tensor in inputs if -1 in tensor.dims}


def _shape(model: Model, tensor: Tensor, shapes: list[tuple[int, ...]]) -> Findings:
    if not all(fits(shape, tensor.dims) for shape in shapes):
        yield Finding(f"TensorRT's shapes do not fit {list(tensor.dims)} of {model.file.name}", tensor.name)
    elif not all(low <= middle <= high for low, middle, high in zip(*shapes, strict=True)):
        yield Finding("TensorRT's smallest, usual and largest shapes are not in order", tensor.name)
    elif model.batches and not (shapes[0][0] == 1 and shapes[2][0] >= model.config.max_batch_size):
        yield Finding(f"TensorRT's shapes do not reach from batch 1 to {model.config.max_batch_size}", tensor.name)


def _parse(text: str) -> dict[str, tuple[int, ...]]:
    """`NAME:1x2,OTHER:1x3` as shapes; what has another form has no shape."""
    shapes = {}
    for part in text.split(","):
        name, _, axes = part.strip().rpartition(":")
        shapes[name] = tuple(map(int, axes.split("x"))) if re.fullmatch(r"\d+(x\d+)*", axes) else ()
    return shapes
