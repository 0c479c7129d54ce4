"""What the ONNX Runtime stand-in takes from a config: providers, their options, and the faults of an installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from repository import PROJECT
from sam3_server import ServerError, onnx_providers
from sam3_server.onnx_providers import CPU, CUDA, TENSORRT, check_available, check_used, requested
from tritonclient.grpc import model_config_pb2


def config(profile: str, model: str) -> dict[str, Any]:
    """A config as Triton passes it to a Python model."""
    text = (PROJECT / "ensemble_configs" / profile / f"{model}.pbtxt").read_text()
    message = text_format.Parse(text, model_config_pb2.ModelConfig())
    return json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))


def with_parameters(**parameters: str) -> dict[str, Any]:
    return {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}


def test_without_a_gpu_the_cpu_is_used_whatever_the_accelerators() -> None:
    assert requested(config("tensorrt", "sam3_image_encoder"), None) == [(CPU, {})]


def test_the_profile_gpu_asks_for_cuda_on_its_device() -> None:
    cuda, cpu = requested(config("gpu", "sam3_image_encoder"), 1)
    assert cuda == (
        CUDA,
        {
            "device_id": "1",
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kNextPowerOfTwo",
            "do_copy_in_default_stream": "1",
        },
    )
    assert cpu == (CPU, {})


def test_parameters_for_cuda_come_before_the_accelerators() -> None:
    given = with_parameters(gpu_mem_limit="1000", arena_extend_strategy="1", do_copy_in_default_stream="0")
    accelerator = {"name": "cuda", "parameters": {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}}
    given["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    (_, options), _ = requested(given, 0)
    assert options == {
        "device_id": "0",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",  # the backend overwrites the accelerator's
        "gpu_mem_limit": "1000",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "0",
    }


def test_tensorrt_comes_first_with_onnx_runtimes_names() -> None:
    (name, options), cuda, _ = requested(config("tensorrt", "sam3_image_encoder"), 0)
    assert (name, cuda[0]) == (TENSORRT, CUDA)
    assert options["trt_fp16_enable"] == "1"
    assert "precision_mode" not in options
    assert options["trt_layer_norm_fp32_fallback"] in ("0", "1")
    assert options["trt_engine_cache_path"] == "/var/cache/sam3/tensorrt"


@pytest.mark.parametrize(
    ("accelerator", "fault"),
    [
        ({"name": "openvino"}, "no accelerator 'openvino' for GPUs"),
        ({"name": "tensorrt", "parameters": {"precision_mode": "BF16"}}, "precision_mode must be one of FP32, FP16"),
        ({"name": "tensorrt", "parameters": {"fp16": "1"}}, "the accelerator tensorrt has no parameter 'fp16'"),
    ],
)
def test_an_accelerator_that_the_backend_does_not_know_is_named(accelerator: dict[str, Any], fault: str) -> None:
    given = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}}
    with pytest.raises(ServerError, match=fault):
        requested(given, 0)


def test_a_value_that_the_backend_does_not_know_is_named() -> None:
    with pytest.raises(ServerError, match="cudnn_conv_algo_search must be one of 0 to 2, not 'fast'"):
        requested(with_parameters(cudnn_conv_algo_search="fast"), 0)


@pytest.mark.parametrize(
    ("packages", "advice"),
    [
        (["onnxruntime"], "runs on the CPU only; in a fresh environment: pip install './server[gpu]'"),
        (["onnxruntime", "onnxruntime-gpu"], "pip uninstall -y onnxruntime && pip install --force-reinstall"),
    ],
)
def test_cuda_that_is_asked_for_and_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, packages: list[str], advice: str
) -> None:
    monkeypatch.setattr(onnx_providers, "_is_installed", packages.__contains__)
    with pytest.raises(ServerError) as raised:
        check_available(requested({}, 0), ["AzureExecutionProvider", CPU])
    assert str(raised.value).startswith(f"the config asks for a GPU ({CUDA}), but the ")
    assert advice in str(raised.value)
    assert "\n" not in str(raised.value)
    check_available(requested({}, None), [CPU])


def test_a_provider_that_onnx_runtime_left_out_is_an_error(tmp_path: Path) -> None:
    check_used(requested({}, 0), [CUDA, CPU], tmp_path)
    with pytest.raises(ServerError, match=f"{CUDA} does not start: .+libonnxruntime_providers_cuda.so"):
        check_used(requested({}, 0), [CPU], tmp_path)
