"""The configs agree with the export's spec and with each other."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from repository import PROJECT
from sam3_export.architecture import Architecture
from sam3_export.components import components_of, image_encoder, mask_decoder
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.formats import FORMATS, Format
from sam3_export.spec import ComponentSpec
from tritonclient.grpc import model_config_pb2

REPOSITORY = PROJECT / "model_repository"
CONCEPTS = sorted((REPOSITORY / "sam3" / "concepts").glob("*/config.pbtxt"))
# Without the links that an export with concept prompts makes.
CONFIGS = sorted(path for path in REPOSITORY.glob("*/config.pbtxt") if not path.parent.is_symlink()) + CONCEPTS
PROFILES = sorted((PROJECT / "ensemble_configs").glob("*/*.pbtxt"))
PROFILES_WITH_CONCEPTS = sorted((PROJECT / "ensemble_configs").glob("*/concepts/*.pbtxt"))
COMPONENTS, COMPONENTS_WITH_CONCEPTS = (
    {component.name: component.spec(sizes) for component in components_of(sizes)}
    for sizes in (Architecture(), Architecture(concepts=ConceptArchitecture()))
)
GPU_PROFILES = ("gpu", "tensorrt", "torchscript-gpu", "torchscript-gpu-bf16")
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "bool": "TYPE_BOOL",
}


def parse(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


ENSEMBLES = {path.parent.name: parse(path) for path in CONFIGS if parse(path).platform == "ensemble"}
# Those of concept prompts use the encoder's fourth output.
CONCEPT_ENSEMBLES = {path.parent.name for path in CONCEPTS} & ENSEMBLES.keys()
CACHE = "sam3_embedding_cache"


def steps_of(ensemble: str) -> list[str]:
    return [step.model_name for step in ENSEMBLES[ensemble].ensemble_scheduling.step]


def config_of(model: str, profile: str, concepts: bool) -> model_config_pb2.ModelConfig:
    """The config that a profile serves a model with, in a repository with or without concept prompts."""
    folder = PROJECT / "ensemble_configs" / profile
    paths = [folder / f"{model}.pbtxt", REPOSITORY / model / "config.pbtxt"]
    if concepts:
        paths.insert(0, folder / "concepts" / f"{model}.pbtxt")
        paths.append(REPOSITORY / "sam3" / "concepts" / model / "config.pbtxt")
    return parse(next(path for path in paths if path.is_file()))


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


@pytest.mark.parametrize("path", PROFILES + PROFILES_WITH_CONCEPTS, ids=identify)
def test_a_profile_is_for_a_model_and_says_its_name(path: Path) -> None:
    config = parse(path)
    assert config.name == path.stem
    with_concepts = path in PROFILES_WITH_CONCEPTS
    assert path.stem in {one.parent.name for one in CONFIGS if with_concepts or one not in CONCEPTS}
    profile = path.parents[1] if with_concepts else path.parent
    assert config.parameters["profile"].string_value == profile.name


@pytest.mark.parametrize("path", CONFIGS + PROFILES + PROFILES_WITH_CONCEPTS, ids=identify)
def test_instances_batches_and_delays_are_explicit(path: Path) -> None:
    config = parse(path)
    assert re.search(r"^max_batch_size:", path.read_text(), re.MULTILINE)
    if config.platform == "ensemble":
        return
    assert [group.count for group in config.instance_group]
    if config.max_batch_size:
        assert "max_queue_delay_microseconds" in path.read_text()


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS + PROFILES + PROFILES_WITH_CONCEPTS if path_is_onnx(path)], ids=identify
)
def test_onnx_configs_leave_the_tensors_to_the_model_file(path: Path) -> None:
    # The native backend refuses a fixed axis written as -1, and configs must not contain sizes.
    config = parse(path)
    assert not config.input
    assert not config.output


@pytest.mark.parametrize("concepts", [False, True], ids=["clicks", "concepts"])
@pytest.mark.parametrize("profile", ["torchscript", "torchscript-gpu", "cpu-bf16", "torchscript-gpu-bf16"])
def test_torchscript_configs_give_the_specs_tensors_in_its_order(profile: str, concepts: bool) -> None:
    for name, spec in (COMPONENTS_WITH_CONCEPTS if concepts else COMPONENTS).items():
        config = config_of(name, profile, concepts)
        assert config.backend == "pytorch"
        compare(config, format_of(config).adapt(spec))


def compare(config: model_config_pb2.ModelConfig, component: ComponentSpec | None) -> None:
    """Checks that a config declares a component's tensors in its order."""
    assert component is not None
    for declared, tensors in ((config.input, component.inputs), (config.output, component.outputs)):
        assert [tensor.name for tensor in declared] == [tensor.name for tensor in tensors]
        for found, wanted in zip(declared, tensors, strict=True):
            assert model_config_pb2.DataType.Name(found.data_type) == TYPES[wanted.dtype]
            assert len(found.dims) == len(wanted.axes) - 1  # without the batch axis
            for length, axis in zip(found.dims, wanted.axes[1:], strict=True):
                assert length in (-1, axis) if isinstance(axis, int) else length == -1


@pytest.mark.parametrize("concepts", [False, True], ids=["clicks", "concepts"])
@pytest.mark.parametrize("profile", ["default", *sorted({path.parent.name for path in PROFILES})])
def test_features_have_one_dtype_in_every_config(profile: str, concepts: bool) -> None:
    specs = {
        name: format_of(config_of(name, profile, concepts)).adapt(spec) or spec
        for name, spec in (COMPONENTS_WITH_CONCEPTS if concepts else COMPONENTS).items()
    }
    passed = [  # written by the encoder; read by, and on the way through
        *((name, mask_decoder.NAME, ("sam3_encode", CACHE)) for name in image_encoder.FEATURES),
        *([("BACKBONE_FEATURES", "sam3_concept_detector", ("sam3_encode_concepts", CACHE))] if concepts else ()),
    ]
    for name, reader, models in passed:
        (written,) = [tensor.dtype for tensor in specs[image_encoder.NAME].outputs if tensor.name == name]
        (read,) = [tensor.dtype for tensor in specs[reader].inputs if tensor.name == name]
        assert read == written
        for model in models:
            declared = config_of(model, profile, concepts).output
            (found,) = [tensor.data_type for tensor in declared if tensor.name == name]
            assert model_config_pb2.DataType.Name(found) == TYPES[written], f"{model}: {name}"


def test_profiles_for_gpus_differ_only_in_encoder_and_decoder() -> None:
    cache = "sam3_embedding_cache.pbtxt"
    configs = [parse(PROJECT / "ensemble_configs" / profile / cache) for profile in GPU_PROFILES]
    for config in configs:
        del config.parameters["profile"]
    assert all(config == configs[0] for config in configs)


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_profiles_for_gpus_use_one_gpu(profile: str) -> None:
    # The cache passes features on in the memory of its own GPU.
    for model in (*COMPONENTS_WITH_CONCEPTS, CACHE):
        (group,) = config_of(model, profile, concepts=True).instance_group
        assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
        assert list(group.gpus) == [0]


ENCODERS_ON_CPU = [
    path
    for path in (REPOSITORY / image_encoder.NAME / "config.pbtxt", *PROFILES)
    if parse(path).name == image_encoder.NAME
    and parse(path).backend == "onnxruntime"
    and all(group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU for group in parse(path).instance_group)
]


@pytest.mark.parametrize("path", ENCODERS_ON_CPU, ids=identify)
def test_encoders_on_cpus_have_no_memory_pattern(path: Path) -> None:
    # It costs gigabytes from the second image on (docs/full-size.md).
    assert parse(path).parameters["enable_mem_pattern"].string_value == "0"


def test_tensorrt_gets_its_own_encoder_and_the_shapes_of_sam3() -> None:
    config = parse(PROJECT / "ensemble_configs" / "tensorrt" / "sam3_image_encoder.pbtxt")
    assert format_of(config).name == "onnx-tensorrt"  # it does not know the operator of fused attention
    (pixels,) = COMPONENTS["sam3_image_encoder"].inputs
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    axes = "x".join(str(axis) for axis in pixels.axes[1:])
    for bound, batch in (("min", 1), ("opt", 1), ("max", config.max_batch_size)):
        assert accelerator.parameters[f"trt_profile_{bound}_shapes"] == f"{pixels.name}:{batch}x{axes}"
    (warmup,) = config.model_warmup
    assert {name: tuple(tensor.dims) for name, tensor in warmup.inputs.items()} == {pixels.name: pixels.axes[1:]}


@pytest.mark.parametrize("concepts", [False, True], ids=["clicks", "concepts"])
def test_ensembles_use_the_tensors_of_the_spec(concepts: bool) -> None:
    specs = COMPONENTS_WITH_CONCEPTS if concepts else COMPONENTS
    used: dict[str, set[str]] = {model: set() for model in specs}
    for name, config in ENSEMBLES.items():
        if not concepts and name in CONCEPT_ENSEMBLES:
            continue
        for step in config.ensemble_scheduling.step:
            if step.model_name in used:
                used[step.model_name] |= {*step.input_map, *step.output_map}
    for model, component in specs.items():
        if model == "sam3_text_encoder":  # sam3_text_cache calls it
            continue
        assert used[model] == {tensor.name for tensor in (*component.inputs, *component.outputs)}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_no_tensor_is_both_input_and_output_of_an_ensemble(name: str) -> None:
    # Otherwise Triton answers with the input, and then with an error.
    config = ENSEMBLES[name]
    assert not {tensor.name for tensor in config.input} & {tensor.name for tensor in config.output}


@pytest.mark.parametrize("name", [name for name in ENSEMBLES if CACHE in steps_of(name)])
def test_the_cache_comes_first_and_takes_all_inputs(name: str) -> None:
    # Triton assigns a skipped step's inputs to the first step, so the first step must never be skipped.
    config = ENSEMBLES[name]
    first = config.ensemble_scheduling.step[0]
    assert first.model_name == CACHE
    assert set(first.input_map.values()) == {tensor.name for tensor in config.input}


@pytest.mark.parametrize("name", [name for name in ENSEMBLES if CACHE in steps_of(name)])
def test_every_output_needs_the_cache(name: str) -> None:
    # Otherwise a request for the others alone would skip it.
    steps = ENSEMBLES[name].ensemble_scheduling.step
    made_with_it = set(steps[0].output_map.values())
    for step in steps[1:]:
        if made_with_it & set(step.input_map.values()):
            made_with_it |= set(step.output_map.values())
    assert {tensor.name for tensor in ENSEMBLES[name].output} <= made_with_it


@pytest.mark.parametrize("name", ENSEMBLES)
def test_no_output_of_an_ensemble_is_also_the_input_of_a_step(name: str) -> None:
    # When that step is skipped, Triton takes the output for unwanted.
    config = ENSEMBLES[name]
    read = {value for step in config.ensemble_scheduling.step for value in step.input_map.values()}
    assert not {tensor.name for tensor in config.output} & read


@pytest.mark.parametrize("name", ENSEMBLES)
def test_steps_run_one_after_another(name: str) -> None:
    # If two run at a time and one fails at once, Triton can hang (seen with 2.51).
    steps = ENSEMBLES[name].ensemble_scheduling.step
    for before, step in itertools.pairwise(steps):
        assert set(before.output_map.values()) & set(step.input_map.values()), step.model_name


DALI = PROJECT / "docs" / "examples" / "dali"


def test_the_dali_variant_has_the_tensors_of_the_model_it_replaces() -> None:
    ours, dali = (
        parse(REPOSITORY / "sam3_preprocess" / "config.pbtxt"),
        parse(DALI / "sam3_preprocess_dali" / "config.pbtxt"),
    )
    assert dali.name == "sam3_preprocess_dali"
    assert dali.max_batch_size == 1  # its batch axis is the 1 of PIXELS
    for wanted, found in zip(ours.output, dali.output, strict=True):
        assert (found.name, found.data_type) == (wanted.name, wanted.data_type)
        assert [1, *found.dims] == list(wanted.dims) or list(found.dims) == list(wanted.dims) == [2]
    pipeline, caller = (
        (DALI / path).read_text() for path in ("sam3_preprocess_dali/1/dali.py", "sam3_preprocess/1/model.py")
    )
    assert compile(pipeline, "dali.py", "exec")
    assert f'name="{dali.input[0].name}"' in pipeline
    assert f'Tensor("{dali.input[0].name}"' in caller
    assert f'"{dali.name}"' in caller
