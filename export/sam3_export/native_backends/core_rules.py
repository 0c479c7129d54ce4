"""What Triton's core asks of every config, whatever its backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import model_config_pb2

from sam3_export.native_backends.repository import Finding, Findings, Model, Signature

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "pytorch": "pytorch_libtorch"}


def findings(model: Model) -> Findings:
    """Faults of one config by itself."""
    config = model.config
    if config.name and config.name != model.name:
        yield Finding(f"the config's name is {config.name!r}, not that of its folder")
    if bool(config.backend) == model.is_ensemble:
        yield Finding("a config has either a backend or the platform 'ensemble'")
    if config.platform not in ("", "ensemble", _PLATFORMS.get(config.backend, "")):
        yield Finding(f"the platform {config.platform!r} is not the backend {config.backend!r}'s")
    if config.max_batch_size < 0:
        yield Finding(f"max_batch_size is {config.max_batch_size}")
    for size in config.dynamic_batching.preferred_batch_size:
        if not 0 < size <= config.max_batch_size:
            yield Finding(f"the preferred batch size {size} is not within max_batch_size ({config.max_batch_size})")
    yield from _tensors(config)
    yield from _ensemble(config) if model.is_ensemble else _instances(model)


def _tensors(config: Any) -> Findings:
    for tensor in (*config.input, *config.output):
        if not tensor.name:
            yield Finding("a tensor without a name")
        if tensor.data_type == model_config_pb2.DataType.TYPE_INVALID:
            yield Finding("the data type is missing", tensor.name)
        if not tensor.dims:
            yield Finding("the dims are missing", tensor.name)
        for length in (*tensor.dims, *tensor.reshape.shape):
            if length < 1 and length != -1:
                yield Finding(f"an axis of length {length}; it is 1 or more, or -1", tensor.name)
    for kind, tensors in (("inputs", config.input), ("outputs", config.output)):
        names = [tensor.name for tensor in tensors]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Finding(f"twice among the {kind}", name)


def _ensemble(config: Any) -> Findings:
    for field in ("instance_group", "model_warmup"):
        if len(getattr(config, field)):
            yield Finding(f"an ensemble has no {field}")
    if config.HasField("optimization"):
        yield Finding("an ensemble has no optimization")
    if not config.ensemble_scheduling.step:
        yield Finding("an ensemble needs steps")


def _instances(model: Model) -> Findings:
    for group in model.config.instance_group:
        kind = group.Kind.Name(group.kind)
        if kind in ("KIND_CPU", "KIND_MODEL") and group.gpus:
            yield Finding(f"an instance group of {kind} that lists gpus")
        if kind == "KIND_MODEL" and model.config.backend != "pytorch":
            yield Finding(f"the backend {model.config.backend!r} would run an instance group of KIND_MODEL on the CPU")
        if group.profile:
            yield Finding("an instance group's profile is for the backend tensorrt alone")
        for resource in group.rate_limiter.resources:
            if not resource.name or resource.count < 1:
                yield Finding("a rate limiter's resource needs a name and a count of 1 or more")
    if not model.file.is_file():
        yield Finding(f"the file {model.file.name} is missing")


def warmup(model: Model, signature: Signature) -> Findings:
    """Faults of the warm-up samples, which Triton runs while a model loads: it is not served where one fails."""
    inputs = {tensor.name: tensor for tensor in signature.inputs}
    for sample in model.config.model_warmup:
        where = f"warm-up {sample.name!r}"
        if sample.batch_size > max(1, model.config.max_batch_size):
            yield Finding(f"{where}: a batch of {sample.batch_size} with max_batch_size {model.config.max_batch_size}")
        for name in sorted(sample.inputs.keys() - inputs.keys()):
            yield Finding(f"{where}: the model has no such input", name)
        for name, tensor in inputs.items():
            if name not in sample.inputs:
                if not tensor.optional:
                    yield Finding(f"{where}: the input is missing", name)
                continue
            given = sample.inputs[name]
            data_type = model_config_pb2.DataType.Name(given.data_type)
            if data_type != tensor.data_type:
                yield Finding(f"{where}: {data_type}, where the input is {tensor.data_type}", name)
            if -1 in given.dims or not fits(given.dims, tensor.dims):
                yield Finding(f"{where}: dims {list(given.dims)}, where the input has {list(tensor.dims)}", name)
            source = given.WhichOneof("input_data_type")
            if source is None:
                yield Finding(f"{where}: one of zero_data, random_data and input_data_file is needed", name)
            elif source == "random_data" and "INT" in tensor.data_type:
                yield Finding(f"{where}: random bytes for whole numbers are indexes out of range; use zero_data", name)
            elif source == "input_data_file" and not (model.folder.parent / "warmup" / given.input_data_file).is_file():
                yield Finding(f"{where}: the file warmup/{given.input_data_file} is missing", name)


def shared_resources(models: Iterable[Model]) -> Iterable[tuple[Model, Finding]]:
    """A rate limiter's resource is either one for all devices or one for each, in all models alike."""
    kinds: dict[str, bool] = {}
    for model in models:
        for group in model.config.instance_group:
            for resource in group.rate_limiter.resources:
                is_global = getattr(resource, "global")
                if kinds.setdefault(resource.name, is_global) != is_global:
                    yield model, Finding(f"the rate limiter's resource {resource.name!r} is global in one model alone")


def fits(one: Iterable[int], other: Iterable[int]) -> bool:
    """Whether two shapes can be the same, where -1 stands for any length."""
    one, other = tuple(one), tuple(other)
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))
