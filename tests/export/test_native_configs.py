"""Breaks each rule for configs once and expects the checker to name it (docs/native-backends.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from native import (
    CACHE_CONFIG,
    DECODER_CONFIG,
    ENCODER_CONFIG,
    TORCHSCRIPT_DECODER,
    TORCHSCRIPT_ENCODER,
    edit,
    faults,
)

CONFIG_FAULTS = [
    # Any backend.
    (ENCODER_CONFIG, ('backend: "onnxruntime"', ""), "no backend: Triton would guess one"),
    (ENCODER_CONFIG, ("kind: KIND_CPU", "kind: KIND_MODEL"), "KIND_MODEL on the CPU"),
    (ENCODER_CONFIG, ("max_batch_size", "max_batch_sise"), "Triton cannot parse this config"),
    # Parameters.
    (
        ENCODER_CONFIG,
        ('{ key: "profile"', '{ key: "intra_op_threads" value { string_value: "2" } },\n  { key: "profile"'),
        "does not read the parameter 'intra_op_threads'",
    ),
    (TORCHSCRIPT_ENCODER, ('string_value: "true"', 'string_value: "yes"'), "accepts true|false|0|1 for"),
    (
        TORCHSCRIPT_ENCODER,
        ("DISABLE_OPTIMIZED_EXECUTION", "ENABLE_NVFUSER"),
        "does not read the parameter 'ENABLE_NVFUSER'",
    ),
    (CACHE_CONFIG, ('"memory" ', '"FORCE_CPU_ONLY_INPUT_TENSORS"'), "accepts yes|no for 'FORCE_CPU_ONLY"),
    (CACHE_CONFIG, ('"cache_bytes" ', '"cache_size"'), "does not read the parameter 'cache_size'"),
    # Batching and tensors of the ONNX file.
    (ENCODER_CONFIG, ("max_batch_size: 1", "max_batch_size: 0"), "Triton would set it to 4"),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 output { name: 'SCORES' data_type: TYPE_FP32 dims: 1 }"),
        "SCORES: model.onnx has no such tensor",
    ),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 input { name: 'PIXELS' data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }"),
        "PIXELS: axes [-1, -1, -1, 3] in the config, [-1, ",
    ),
    (
        ENCODER_CONFIG,
        ("max_batch_size: 1", "max_batch_size: 1 input { name: 'PIXELS' data_type: TYPE_FP32 dims: [ 3 ] }"),
        "PIXELS: TYPE_FP32 in the config, TYPE_UINT8 in model.onnx",
    ),
    (
        DECODER_CONFIG,
        (
            "max_batch_size: 2",
            "max_batch_size: 2 input { name: 'MASK_TOKENS' data_type: TYPE_INT32 dims: [ -1 ] optional: true }",
        ),
        "MASK_TOKENS: an input cannot be optional",
    ),
    (
        DECODER_CONFIG,
        ("max_batch_size: 2", "max_batch_size: 2 input { name: 'MASK_TOKENS' data_type: TYPE_INT32 dims: [ -1 ] }"),
        "the config has 1 inputs, model.onnx has 8",
    ),
    # TorchScript's arguments.
    (TORCHSCRIPT_DECODER, ('"HIGH_RES_FEATURES_0"', '"HIGH_RES_FEATURES_2"'), "argument 1 is high_res_features_0"),
    (
        TORCHSCRIPT_DECODER,
        ('{ name: "SCORES"', '{ name: "EXTRA" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "SCORES"'),
        "the config has 3 outputs, model.pt has 2",
    ),
    (TORCHSCRIPT_ENCODER, ("TYPE_UINT8", "TYPE_UINT16"), "PIXELS: the backend pytorch has no tensors of TYPE_UINT16"),
    (TORCHSCRIPT_ENCODER, ('"PIXELS"', '"PIXELS__1"'), "must be 0 to 0"),
    (
        TORCHSCRIPT_ENCODER,
        ("max_batch_size: 1", "max_batch_size: 1 optimization { graph { level: 1 } }"),
        "neither accelerators nor a graph level",
    ),
]


@pytest.mark.parametrize(("config", "change", "expected"), CONFIG_FAULTS, ids=lambda value: str(value)[-40:])
def test_a_fault_in_a_config_is_named(linked: Path, config: str, change: tuple[str, str], expected: str) -> None:
    edit(linked, config, change)
    found = [line for line in faults(linked) if expected in line]
    assert found, faults(linked)
    assert found[0].startswith(f"{config}: ")


def test_only_one_model_may_set_the_inter_op_threads(linked: Path) -> None:
    for config in (TORCHSCRIPT_ENCODER, TORCHSCRIPT_DECODER):
        edit(linked, config, ("DISABLE_OPTIMIZED_EXECUTION", "INTER_OP_THREAD_COUNT"), ('"true"', '"1"'))
    (line,) = faults(linked)
    assert line.startswith(f"{TORCHSCRIPT_DECODER}: ")
    assert "sam3_image_encoder sets INTER_OP_THREAD_COUNT already" in line
