"""Each rule for configs and ensembles broken once, and the fault named (docs/native-backends.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from native import (
    CACHE_CONFIG,
    DECODER_CONFIG,
    DEFAULT,
    ENCODE_CONFIG,
    ENCODER_CONFIG,
    TORCHSCRIPT_DECODER,
    TORCHSCRIPT_ENCODER,
    edit,
    faults,
)

CONFIG_FAULTS = [
    # The core, of any config.
    (ENCODER_CONFIG, ('name: "sam3_image_encoder"', 'name: "encoder"'), "the config's name is 'encoder'"),
    (ENCODER_CONFIG, ("max_batch_size: 1", "max_batch_size: -1"), "max_batch_size is -1"),
    (ENCODER_CONFIG, ("{ max_queue", "{ preferred_batch_size: 9 max_queue"), "preferred batch size 9"),
    (ENCODER_CONFIG, ('backend: "onnxruntime"', 'backend: "onnxruntime" platform: "pytorch_libtorch"'), "platform"),
    (ENCODER_CONFIG, ("kind: KIND_CPU", "kind: KIND_CPU gpus: [ 0 ]"), "KIND_CPU that lists gpus"),
    (ENCODER_CONFIG, ("kind: KIND_CPU", "kind: KIND_MODEL"), "KIND_MODEL on the CPU"),
    (ENCODER_CONFIG, ("kind: KIND_CPU", 'kind: KIND_CPU profile: "0"'), "tensorrt alone"),
    (ENCODER_CONFIG, ("max_batch_size", "max_batch_sise"), "Triton cannot parse this config"),
    (ENCODER_CONFIG, ("kind: KIND_CPU", "kind: KIND_CPU rate_limiter { resources { count: 1 } }"), "needs a name"),
    (CACHE_CONFIG, ("dims: [ 1, -1, -1, -1 ]", "dims: [ 0, -1, -1, -1 ]"), "HIGH_RES_FEATURES_0: an axis of length 0"),
    (CACHE_CONFIG, ('name: "CACHE_HIT"', 'name: "IMAGE_ID"'), "IMAGE_ID: twice among the outputs"),
    # Parameters.
    (
        ENCODER_CONFIG,
        ('{ key: "profile"', '{ key: "intra_op_threads" value { string_value: "2" } }\nparameters { key: "profile"'),
        "reads no parameter 'intra_op_threads'",
    ),
    (TORCHSCRIPT_ENCODER, ('string_value: "true"', 'string_value: "yes"'), "takes true|false|0|1 for"),
    (TORCHSCRIPT_ENCODER, ("DISABLE_OPTIMIZED_EXECUTION", "ENABLE_NVFUSER"), "reads no parameter 'ENABLE_NVFUSER'"),
    (CACHE_CONFIG, ('"memory" ', '"FORCE_CPU_ONLY_INPUT_TENSORS"'), "takes yes|no for 'FORCE_CPU_ONLY"),
    (CACHE_CONFIG, ('"cache_bytes" ', '"cache_size"'), "reads the parameter 'cache_size'"),
    # Batching and tensors of the ONNX file.
    (ENCODER_CONFIG, ("max_batch_size: 1", "max_batch_size: 0"), "Triton would set 4 by itself"),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 output { name: 'SCORES' data_type: TYPE_FP32 dims: 1 }"),
        "SCORES: model.onnx has no such tensor",
    ),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 input { name: 'PIXELS' data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }"),
        "PIXELS: axes [-1, -1, -1, 3], in model.onnx [-1, ",
    ),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 input { name: 'PIXELS' data_type: TYPE_FP32 dims: [ 3 ] }"),
        "PIXELS: TYPE_FP32, in model.onnx TYPE_UINT8",
    ),
    (
        DECODER_CONFIG,
        (
            "max_batch_size: 2",
            "max_batch_size: 2 input { name: 'MASK_TOKENS' data_type: TYPE_INT32 dims: [ -1 ] optional: true }",
        ),
        "MASK_TOKENS: an optional input",
    ),
    (
        DECODER_CONFIG,
        ("max_batch_size: 2", "max_batch_size: 2 input { name: 'MASK_TOKENS' data_type: TYPE_INT32 dims: [ -1 ] }"),
        "1 inputs, where model.onnx has 8",
    ),
    # TorchScript's arguments.
    (TORCHSCRIPT_DECODER, ('"HIGH_RES_FEATURES_0"', '"HIGH_RES_FEATURES_2"'), "argument 1 is high_res_features_0"),
    (
        TORCHSCRIPT_DECODER,
        ('{ name: "SCORES"', '{ name: "EXTRA" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "SCORES"'),
        "3 outputs, where",
    ),
    (TORCHSCRIPT_ENCODER, ("TYPE_UINT8", "TYPE_UINT16"), "PIXELS: the backend pytorch has no tensors of TYPE_UINT16"),
    (TORCHSCRIPT_ENCODER, ('"PIXELS"', '"PIXELS__1"'), "are not 0 to 0"),
    (
        TORCHSCRIPT_ENCODER,
        ("max_batch_size: 1", "max_batch_size: 1 optimization { graph { level: 1 } }"),
        "no graph level",
    ),
    # Ensembles.
    (ENCODE_CONFIG, ('"sam3_preprocess"', '"sam3_decode"'), "has no model 'sam3_decode'"),
    (
        ENCODE_CONFIG,
        ('key: "PIXELS" value: "pixels"', 'key: "PICTURE" value: "pixels"'),
        "no input 'PICTURE'",
    ),
    (ENCODE_CONFIG, ("TYPE_FP16", "TYPE_FP32"), "HIGH_RES_FEATURES_0: TYPE_FP32 in sam3_encode"),
    (
        ENCODE_CONFIG,
        ("[ 1, -1, -1, -1 ]", "[ 1, -1, -1 ]"),
        "HIGH_RES_FEATURES_0: [1, -1, -1] in sam3_enc",
    ),
    (
        ENCODE_CONFIG,
        ("[ 1, -1, -1, -1 ]", "[ -1, -1, -1 ]"),
        "HIGH_RES_FEATURES_0: with the batch axis",
    ),
    (
        ENCODE_CONFIG,
        ('value: "ORIGINAL_SIZE"', 'value: "size"'),
        "ORIGINAL_SIZE: an output that no step",
    ),
    (ENCODE_CONFIG, ('value: "pixels"', 'value: "picture"'), "picture: written, and read by nobody"),
    (ENCODE_CONFIG, ("[ 1 ]", "[ 1 ] optional: true"), "IMAGE: optional, where sam3_preprocess needs"),
    (
        ENCODE_CONFIG,
        ("max_batch_size: 0", "max_batch_size: 32"),
        "larger than sam3_image_encoder's (1)",
    ),
    (
        DEFAULT.format("sam3"),
        ('      input_map { key: "SCORES"        value: "scores" }\n', ""),
        "input 'SCORES' is not given",
    ),
]


@pytest.mark.parametrize(("config", "change", "expected"), CONFIG_FAULTS, ids=lambda value: str(value)[-40:])
def test_a_fault_in_a_config_is_named(linked: Path, config: str, change: tuple[str, str], expected: str) -> None:
    edit(linked, config, change)
    found = [line for line in faults(linked) if expected in line]
    assert found, faults(linked)
    assert found[0].startswith(f"{config}: ")


def test_faults_that_two_models_have_together_are_named(linked: Path) -> None:
    for config, more in ((ENCODER_CONFIG, ""), (DECODER_CONFIG, "global: true")):
        limiter = f'rate_limiter {{ resources {{ name: "gpu" count: 1 {more} }} }}'
        edit(linked, config, ("kind: KIND_CPU", f"kind: KIND_CPU {limiter}"))
    for config in (TORCHSCRIPT_ENCODER, TORCHSCRIPT_DECODER):
        edit(linked, config, ("DISABLE_OPTIMIZED_EXECUTION", "INTER_OP_THREAD_COUNT"), ('"true"', '"1"'))
    found = faults(linked)
    assert [line.split(": ")[0] for line in found] == [DECODER_CONFIG, TORCHSCRIPT_DECODER]
    assert "'gpu' is global in one model alone" in found[0]
    assert "INTER_OP_THREAD_COUNT is set by sam3_image_encoder already" in found[1]
