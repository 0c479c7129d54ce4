"""Breaks each rule for `optimization` once and expects the checker to name it (docs/native-backends.md)."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from native import ENCODER, ENCODER_CONFIG, append, edit, faults

SHAPES = """optimization {{ execution_accelerators {{ gpu_execution_accelerator : [ {{ name: "tensorrt"
  parameters {{ key: "trt_profile_min_shapes" value: "{}" }}
  parameters {{ key: "trt_profile_opt_shapes" value: "{}" }}
  parameters {{ key: "trt_profile_max_shapes" value: "{}" }} }} ] }} }}"""

APPENDED_FAULTS = [
    (ENCODER_CONFIG, "optimization { graph { level: 3 } }", "graph level 3"),
    (ENCODER_CONFIG, "optimization { cuda { graphs: true } }", "optimization.cuda"),
    (ENCODER_CONFIG, SHAPES.format("", "", ""), "need an instance group of KIND_GPU"),
    (ENCODER_CONFIG, 'optimization { execution_accelerators { cpu_execution_accelerator { name: "mkl" } } }', "'mkl'"),
]


@pytest.mark.parametrize(("config", "text", "expected"), APPENDED_FAULTS, ids=lambda value: str(value)[-40:])
def test_a_fault_in_an_added_field_is_named(linked: Path, config: str, text: str, expected: str) -> None:
    append(linked, config, text)
    assert any(expected in line for line in faults(linked)), faults(linked)


def accelerator(name: str, **parameters: str) -> str:
    inner = " ".join(f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items())
    return (
        f'optimization {{ execution_accelerators {{ gpu_execution_accelerator : [ {{ name: "{name}" {inner} }} ] }} }}'
    )


ACCELERATORS = [
    (
        accelerator("tensorrt", precision_mode="FP16", trt_layer_norm_fp32_fallback="1", trt_engine_cache_path="/c"),
        None,
    ),
    (accelerator("cuda", use_tf32="0", prefer_nhwc="1"), None),
    (accelerator("trt"), "no accelerator 'trt'"),
    (accelerator("tensorrt", precision_mode="BF16"), "accepts FP32|FP16|INT8 for 'precision_mode', not 'BF16'"),
    (accelerator("tensorrt", trt_fp16_enable="1"), "does not read the parameter 'trt_fp16_enable'"),
    (
        accelerator("cuda", cudnn_conv_algo_search="HEURISTIC"),
        "the backend overwrites 'cudnn_conv_algo_search' of the accelerator cuda",
    ),
    (accelerator("cuda", enable_cuda_graphs="1"), "does not read the parameter 'enable_cuda_graphs'"),
    (accelerator("tensorrt", trt_profile_min_shapes="PIXELS:1x9x9x3"), "trt_profile_opt_shapes is missing"),
    (SHAPES.format(*[f"PIXELS:{batch}x9x9x3" for batch in (1, 1, 8)]), "do not fit"),
    (SHAPES.format(*[f"PIXELS:{batch}x{{size}}x{{size}}x3" for batch in (1, 4, 8)]), None),
    (SHAPES.format(*[f"PIXELS:{batch}x{{size}}x{{size}}x3" for batch in (4, 1, 8)]), "must not shrink"),
    (SHAPES.format(*[f"PIXELS:{batch}x{{size}}x{{size}}x3" for batch in (1, 1, 4)]), "must cover batches of 1 to 8"),
    (SHAPES.format(*["IMAGES:1x9x9x3"] * 3), "IMAGES: TensorRT's shapes name an input that"),
    (SHAPES.format(*["IMAGES:1x9x9x3"] * 3), "PIXELS: each of TensorRT's three shapes must include it"),
]


@pytest.mark.parametrize(("text", "expected"), ACCELERATORS)
def test_accelerators_are_checked_against_the_release(linked: Path, text: str, expected: str | None) -> None:
    inputs = onnx.load(linked / ENCODER / "1" / "model.onnx").graph.input
    text = text.replace("{size}", str(inputs[0].type.tensor_type.shape.dim[1].dim_value))
    edit(linked, ENCODER_CONFIG, ("kind: KIND_CPU", "kind: KIND_GPU"), ("max_batch_size: 1", "max_batch_size: 8"))
    append(linked, ENCODER_CONFIG, text)
    found = faults(linked)
    assert found == [] if expected is None else any(expected in line for line in found), found
