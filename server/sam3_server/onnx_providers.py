"""The execution providers of the stand-in for Triton's ONNX Runtime backend, read from a model's config.

It translates a config as the native backend of 24.10 does. Unlike ONNX Runtime itself it never falls back to the CPU.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from sam3_server.errors import ServerError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
Provider = tuple[str, dict[str, str]]

# The backend sets these four itself, in this order of a parameter's values; the first one is its default.
_CUDA_PARAMETERS = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}
_COPY_IN_DEFAULT_STREAM, _MEMORY_LIMIT = "do_copy_in_default_stream", "gpu_mem_limit"
# The backend's own names of TensorRT's options. All others begin with "trt_", as in ONNX Runtime.
_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_PRECISIONS = {"FP32": {}, "FP16": {"trt_fp16_enable": "1"}, "INT8": {"trt_int8_enable": "1"}}
_LIBRARIES = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_INSTALL = "pip install './server[gpu]'"


def requested(config: Mapping[str, Any], device: int | None) -> list[Provider]:
    """The providers that a config asks for, most preferred first, each with ONNX Runtime's options.

    Args:
        config: as Triton passes it to a Python model.
        device: index of the GPU, for an instance of KIND_GPU; None: the CPU, where the backend ignores accelerators
            for GPUs.

    Raises:
        ServerError: an accelerator or a value that the backend does not know.
    """
    if device is None:
        return [(CPU, {})]
    accelerators = config.get("optimization", {}).get("execution_accelerators", {}).get("gpu_execution_accelerator", [])
    providers: list[Provider] = []
    cuda: dict[str, str] = {}
    for accelerator in accelerators:
        given = accelerator.get("parameters", {})
        if accelerator["name"] == "tensorrt":
            providers.append((TENSORRT, {"device_id": str(device), **_tensorrt_options(given)}))
        elif accelerator["name"] == "cuda":
            cuda = dict(given)
        else:
            raise ServerError(f"no accelerator {accelerator['name']!r} for GPUs; use tensorrt or cuda")
    options = {"device_id": str(device), **cuda, **_cuda_options(config.get("parameters", {}))}
    return [*providers, (CUDA, options), (CPU, {})]


def check_available(providers: list[Provider], available: list[str]) -> None:
    """Checks that the installed ONNX Runtime was built with the requested providers.

    Args:
        available: `onnxruntime.get_available_providers()`.

    Raises:
        ServerError: says what to install.
    """
    for name, _ in providers:
        if name not in available:
            raise ServerError(f"the config asks for a GPU ({name}), but {_fault_of_installation()}")


def check_used(providers: list[Provider], used: list[str], folder: Path) -> None:
    """Checks that a session uses all requested providers: ONNX Runtime leaves one out if its libraries do not load.

    Args:
        used: `session.get_providers()`.
        folder: `onnxruntime/capi`, which holds the libraries.

    Raises:
        ServerError: names the library that is missing, if there is one.
    """
    for name, _ in providers:
        if name not in used:
            raise ServerError(f"the config asks for a GPU, but {name} does not start: {_fault(name, folder)}")


def _tensorrt_options(given: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in given.items():
        if name == "precision_mode":
            if value.upper() not in _PRECISIONS:
                raise ServerError(f"TensorRT's precision_mode must be one of {', '.join(_PRECISIONS)}, not {value!r}")
            options |= _PRECISIONS[value.upper()]
        elif name in _TENSORRT_NAMES or name.startswith("trt_"):
            # ONNX Runtime reads only these two spellings of truth values.
            known = {"true": "1", "false": "0"}.get(value.lower(), value)
            options[_TENSORRT_NAMES.get(name, name)] = known
        else:
            raise ServerError(f"the accelerator tensorrt has no parameter {name!r}")
    return options


def _cuda_options(parameters: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The four options that the backend takes from `parameters`, with its defaults for those that are not there."""
    given = {name: value["string_value"] for name, value in parameters.items()}
    options = {_COPY_IN_DEFAULT_STREAM: given.get(_COPY_IN_DEFAULT_STREAM, "1")}
    for name, values in _CUDA_PARAMETERS.items():
        number = given.get(name, "0")
        if not (number.isdecimal() and int(number) < len(values)):
            raise ServerError(f"{name} must be one of 0 to {len(values) - 1}, not {number!r}")
        options[name] = values[int(number)]
    if _MEMORY_LIMIT in given:
        options[_MEMORY_LIMIT] = given[_MEMORY_LIMIT]
    return options


def _fault_of_installation() -> str:
    """Why an ONNX Runtime has no providers for GPUs, and what helps."""
    if _is_installed("onnxruntime-gpu"):
        if _is_installed("onnxruntime"):
            return (
                "the package onnxruntime has overwritten onnxruntime-gpu; run: pip uninstall -y onnxruntime && "
                "pip install --force-reinstall --no-deps onnxruntime-gpu"
            )
        return "the installed onnxruntime-gpu does not have it"
    return f"the installed onnxruntime runs on the CPU only; in a fresh environment: {_INSTALL}"


def _is_installed(package: str) -> bool:
    try:
        return distribution(package) is not None
    except PackageNotFoundError:
        return False


def _fault(provider: str, folder: Path) -> str:
    """Why a provider's library does not load; the dynamic linker names the library that is missing."""
    with suppress(OSError):
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
    try:
        ctypes.CDLL(str(folder / _LIBRARIES[provider]))
    except OSError as error:
        missing = re.match(r"(\S+): cannot open shared object file", str(error))
        hint = "the profile gpu does without TensorRT" if provider == TENSORRT else _INSTALL
        return f"{missing[1]} is missing; {hint}" if missing else str(error).splitlines()[0]
    return "its libraries load, so the driver or the GPU is at fault; ONNX Runtime's messages are above"
