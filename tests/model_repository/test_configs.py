"""The configs agree with the export's spec and with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from repository import PROJECT
from sam3_export.architecture import Architecture
from sam3_export.components import COMPONENTS as ALL
from sam3_export.components import image_encoder, mask_decoder
from sam3_export.formats import FORMATS, Format
from tritonclient.grpc import model_config_pb2

CONFIGS = sorted((PROJECT / "model_repository").glob("*/config.pbtxt"))
PROFILES = sorted((PROJECT / "ensemble_configs").glob("*/*.pbtxt"))
COMPONENTS = {component.name: component.spec(Architecture()) for component in ALL}
GPU_PROFILES = ("gpu", "tensorrt", "torchscript-gpu")
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "bool": "TYPE_BOOL",
}


def parse(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


ENSEMBLES = [path.parent.name for path in CONFIGS if parse(path).platform == "ensemble"]
CACHE = "sam3_embedding_cache"


def steps_of(ensemble: str) -> list[str]:
    config = parse(PROJECT / "model_repository" / ensemble / "config.pbtxt")
    return [step.model_name for step in config.ensemble_scheduling.step]


def identify(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def path_is_onnx(path: Path) -> bool:
    return parse(path).backend == "onnxruntime"


def format_of(config: model_config_pb2.ModelConfig) -> Format:
    """The format of the artifact that a config names, or of Triton's default if it names none."""
    usual = {"onnxruntime": "model.onnx", "pytorch": "model.pt"}[config.backend]
    (found,) = [
        format_ for format_ in FORMATS.values() if format_.file_name == (config.default_model_filename or usual)
    ]
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=identify)
def test_a_config_says_its_name_and_its_profile(path: Path) -> None:
    config = parse(path)
    assert config.name == path.parent.name
    assert config.parameters["profile"].string_value == "default"


@pytest.mark.parametrize("path", PROFILES, ids=identify)
def test_a_profile_is_for_a_model_and_says_its_name(path: Path) -> None:
    config = parse(path)
    assert config.name == path.stem
    assert (PROJECT / "model_repository" / path.stem / "config.pbtxt").is_file()
    assert config.parameters["profile"].string_value == path.parent.name


@pytest.mark.parametrize("path", CONFIGS + PROFILES, ids=identify)
def test_instances_batches_and_delays_are_explicit(path: Path) -> None:
    config = parse(path)
    assert re.search(r"^max_batch_size:", path.read_text(), re.MULTILINE)
    if config.platform == "ensemble":
        return
    assert [group.count for group in config.instance_group]
    if config.max_batch_size:
        assert "max_queue_delay_microseconds" in path.read_text()


@pytest.mark.parametrize("path", [path for path in CONFIGS + PROFILES if path_is_onnx(path)], ids=identify)
def test_onnx_configs_leave_the_tensors_to_the_model_file(path: Path) -> None:
    # The native backend refuses a fixed axis written as -1, and configs must not contain sizes.
    config = parse(path)
    assert not config.input
    assert not config.output


@pytest.mark.parametrize("path", [path for path in PROFILES if parse(path).backend == "pytorch"], ids=identify)
def test_torchscript_configs_give_the_specs_tensors_in_its_order(path: Path) -> None:
    config = parse(path)
    component = format_of(config).adapt(COMPONENTS[config.name])
    for declared, tensors in ((config.input, component.inputs), (config.output, component.outputs)):
        assert [tensor.name for tensor in declared] == [tensor.name for tensor in tensors]
        for found, wanted in zip(declared, tensors, strict=True):
            assert model_config_pb2.DataType.Name(found.data_type) == TYPES[wanted.dtype]
            assert len(found.dims) == len(wanted.axes) - 1  # without the batch axis
            for length, axis in zip(found.dims, wanted.axes[1:], strict=True):
                assert length in (-1, axis) if isinstance(axis, int) else length == -1


@pytest.mark.parametrize("profile", ["default", *sorted({path.parent.name for path in PROFILES})])
def test_features_have_one_dtype_in_every_config(profile: str) -> None:
    def config_of(model: str) -> model_config_pb2.ModelConfig:
        path = PROJECT / "ensemble_configs" / profile / f"{model}.pbtxt"
        return parse(path if path.is_file() else PROJECT / "model_repository" / model / "config.pbtxt")

    encoder, decoder = (
        format_of(config_of(model)).adapt(COMPONENTS[model]) or COMPONENTS[model]
        for model in (image_encoder.NAME, mask_decoder.NAME)
    )
    for name in image_encoder.FEATURES:
        (written,) = [tensor.dtype for tensor in encoder.outputs if tensor.name == name]
        (read,) = [tensor.dtype for tensor in decoder.inputs if tensor.name == name]
        assert read == written
        for model in ("sam3_encode", "sam3_embedding_cache"):
            (declared,) = [tensor.data_type for tensor in config_of(model).output if tensor.name == name]
            assert model_config_pb2.DataType.Name(declared) == TYPES[written], f"{model}: {name}"


def test_profiles_for_gpus_differ_only_in_encoder_and_decoder() -> None:
    cache = "sam3_embedding_cache.pbtxt"
    configs = [parse(PROJECT / "ensemble_configs" / profile / cache) for profile in GPU_PROFILES]
    for config in configs:
        del config.parameters["profile"]
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_profiles_for_gpus_use_one_gpu(profile: str) -> None:
    # The cache passes features on in the memory of its own GPU.
    for model in (*COMPONENTS, "sam3_embedding_cache"):
        (group,) = parse(PROJECT / "ensemble_configs" / profile / f"{model}.pbtxt").instance_group
        assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
        assert list(group.gpus) == [0]


def test_tensorrt_gets_the_shapes_of_sam3() -> None:
    config = parse(PROJECT / "ensemble_configs" / "tensorrt" / "sam3_image_encoder.pbtxt")
    (pixels,) = COMPONENTS["sam3_image_encoder"].inputs
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    axes = "x".join(str(axis) for axis in pixels.axes[1:])
    for bound, batch in (("min", 1), ("opt", 1), ("max", config.max_batch_size)):
        assert accelerator.parameters[f"trt_profile_{bound}_shapes"] == f"{pixels.name}:{batch}x{axes}"
    (warmup,) = config.model_warmup
    assert {name: tuple(tensor.dims) for name, tensor in warmup.inputs.items()} == {pixels.name: pixels.axes[1:]}


def test_ensembles_use_the_tensors_of_the_spec() -> None:
    used: dict[str, set[str]] = {model: set() for model in COMPONENTS}
    for name in ENSEMBLES:
        for step in parse(PROJECT / "model_repository" / name / "config.pbtxt").ensemble_scheduling.step:
            if step.model_name in used:
                used[step.model_name] |= {*step.input_map, *step.output_map}
    for model, component in COMPONENTS.items():
        assert used[model] == {tensor.name for tensor in (*component.inputs, *component.outputs)}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_no_tensor_is_both_input_and_output_of_an_ensemble(name: str) -> None:
    # Otherwise Triton answers with the input, and then with an error.
    config = parse(PROJECT / "model_repository" / name / "config.pbtxt")
    assert not {tensor.name for tensor in config.input} & {tensor.name for tensor in config.output}


@pytest.mark.parametrize("name", [name for name in ENSEMBLES if CACHE in steps_of(name)])
def test_the_cache_comes_first_and_takes_all_inputs(name: str) -> None:
    # Triton assigns a skipped step's inputs to the first step, so the first step must never be skipped.
    config = parse(PROJECT / "model_repository" / name / "config.pbtxt")
    first, *others = config.ensemble_scheduling.step
    assert first.model_name == CACHE
    assert set(first.input_map.values()) == {tensor.name for tensor in config.input}
    assert not {name for step in others for name in step.input_map.values()} & {tensor.name for tensor in config.input}
