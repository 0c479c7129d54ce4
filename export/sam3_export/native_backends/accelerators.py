"""The settings that the `onnxruntime` backend reads under `optimization`, TensorRT's shapes included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sam3_export.native_backends import parameters
from sam3_export.native_backends.repository import Finding, Findings, Model, Tensor

_SHAPES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def findings(model: Model, inputs: Iterable[Tensor]) -> Findings:
    """Rules broken under `optimization`; `inputs` are the model file's."""
    optimization = model.config.optimization
    if optimization.HasField("graph") and optimization.graph.level not in (-1, 0, 1, 2):
        yield Finding(f"no graph level {optimization.graph.level}; use -1 (basic), 1 (extended), 2 (none) or 0 (all)")
    if optimization.HasField("cuda"):
        yield Finding("only the backend tensorrt reads optimization.cuda")
    accelerators = optimization.execution_accelerators
    for accelerator in accelerators.cpu_execution_accelerator:
        if accelerator.name != "openvino":
            yield Finding(f"no accelerator {accelerator.name!r} for CPUs; the only one is openvino")
    if accelerators.gpu_execution_accelerator and not _on_gpu(model):
        yield Finding("accelerators for GPUs need an instance group of KIND_GPU")
    for accelerator in accelerators.gpu_execution_accelerator:
        given = dict(accelerator.parameters)
        if accelerator.name == "tensorrt":
            for rule in parameters.misread(given, parameters.TENSORRT, "the accelerator tensorrt"):
                yield Finding(rule)
            yield from _shapes(model, given, tuple(inputs))
        elif accelerator.name == "cuda":
            for name in sorted(given.keys() & set(parameters.CUDA_ONLY_IN_PARAMETERS)):
                yield Finding(f"the backend overwrites {name!r} of the accelerator cuda; set it under parameters")
                del given[name]
            for rule in parameters.misread(given, parameters.CUDA, "the accelerator cuda"):
                yield Finding(rule)
        else:
            yield Finding(f"no accelerator {accelerator.name!r} for GPUs; use tensorrt or cuda")


def _on_gpu(model: Model) -> bool:
    return any(group.Kind.Name(group.kind) in ("KIND_GPU", "KIND_AUTO") for group in model.config.instance_group)


def _shapes(model: Model, given: Mapping[str, str], inputs: tuple[Tensor, ...]) -> Findings:
    """Checks TensorRT's profile: a smallest, a usual and a largest shape for every input that has an open axis."""
    if not any(name in given for name in _SHAPES):
        return
    for name in _SHAPES:
        if name not in given:
            yield Finding(f"TensorRT needs all of {', '.join(_SHAPES)}; {name} is missing")
            return
    smallest, usual, largest = (_parse(given[name]) for name in _SHAPES)
    own = {tensor.name: tensor for tensor in inputs}
    for name in sorted(smallest.keys() | usual.keys() | largest.keys() | _open(inputs)):
        shapes = [shapes.get(name) for shapes in (smallest, usual, largest)]
        if name not in own:
            yield Finding(f"TensorRT's shapes name an input that {model.file.name} does not have", name)
        elif not all(shapes):
            yield Finding("each of TensorRT's three shapes must include it", name)
        else:
            yield from _shape(model, own[name], [shape for shape in shapes if shape])


def _open(inputs: tuple[Tensor, ...]) -> set[str]:
    return {tensor.name for tensor in inputs if -1 in tensor.dims}


def _shape(model: Model, tensor: Tensor, shapes: list[tuple[int, ...]]) -> Findings:
    if not all(_fits(shape, tensor.dims) for shape in shapes):
        yield Finding(f"TensorRT's shapes do not fit {list(tensor.dims)} of {model.file.name}", tensor.name)
    elif not all(low <= middle <= high for low, middle, high in zip(*shapes, strict=True)):
        yield Finding("TensorRT's shapes must not shrink from smallest to usual to largest", tensor.name)
    elif model.batches and not (shapes[0][0] == 1 and shapes[2][0] >= model.config.max_batch_size):
        yield Finding(f"TensorRT's shapes must cover batches of 1 to {model.config.max_batch_size}", tensor.name)


def _fits(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(shape) == len(dims) and all(axis in (length, -1) for length, axis in zip(shape, dims, strict=True))


def _parse(text: str) -> dict[str, tuple[int, ...]]:
    """Reads `NAME:1x2,OTHER:1x3`; a shape in any other form is empty."""
    shapes = {}
    for part in text.split(","):
        name, _, axes = part.strip().rpartition(":")
        shapes[name] = tuple(map(int, axes.split("x"))) if re.fullmatch(r"\d+(x\d+)*", axes) else ()
    return shapes
