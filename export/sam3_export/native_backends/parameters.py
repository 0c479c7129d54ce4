"""The parameters that each backend reads in a config, and the values that it accepts (Triton 24.10).

A backend silently ignores a name that it does not know, so a typo goes unnoticed. An unknown option of
TensorRT stops the model from loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_BOOL = "(?i:true|false|0|1)"
_INT = r"-?\d+"
_UNSIGNED = r"\d+"
_TEXT = ".+"

# This project's own: sam3-serve reads `profile`; a profile with `image_size` is only for networks of that size.
OWN = {"profile": _TEXT, "image_size": _UNSIGNED}

ONNXRUNTIME = {
    "intra_op_thread_count": _UNSIGNED,
    "inter_op_thread_count": _UNSIGNED,
    "execution_mode": "0|1",
    "enable_mem_arena": _BOOL,
    "enable_mem_pattern": _BOOL,
    "memory.enable_memory_arena_shrinkage": _TEXT,
    "cudnn_conv_algo_search": "0|1|2",
    "gpu_mem_limit": _UNSIGNED,
    "arena_extend_strategy": "0|1",
    "do_copy_in_default_stream": "0|1",
}
PYTORCH = {
    "DISABLE_OPTIMIZED_EXECUTION": _BOOL,
    "INFERENCE_MODE": _BOOL,
    "DISABLE_CUDNN": _BOOL,
    "ENABLE_CACHE_CLEANING": _BOOL,
    "ENABLE_WEIGHT_SHARING": _BOOL,
    "ENABLE_TENSOR_FUSER": _BOOL,
    "ENABLE_JIT_PROFILING": _BOOL,
    "ENABLE_JIT_EXECUTOR": _BOOL,
    "INTRA_OP_THREAD_COUNT": _INT,
    "INTER_OP_THREAD_COUNT": _INT,
}
PYTHON = {"EXECUTION_ENV_PATH": _TEXT, "FORCE_CPU_ONLY_INPUT_TENSORS": "yes|no"}
# The stand-ins are Python models and read this one too; the native backends ignore it.
STAND_IN = {"FORCE_CPU_ONLY_INPUT_TENSORS": "yes|no"}

# Of the accelerator `tensorrt`; later releases add more, such as BF16.
TENSORRT = {
    "precision_mode": "FP32|FP16|INT8",
    "max_workspace_size_bytes": _UNSIGNED,
    "int8_calibration_table_name": _TEXT,
    "int8_use_native_calibration_table": _BOOL,
    **dict.fromkeys(
        (
            "trt_max_partition_iterations",
            "trt_min_subgraph_size",
            "trt_dla_core",
            "trt_builder_optimization_level",
            "trt_auxiliary_streams",
            "trt_ep_context_embed_mode",
        ),
        _INT,
    ),
    **dict.fromkeys(
        (
            "trt_dla_enable",
            "trt_engine_cache_enable",
            "trt_dump_subgraphs",
            "trt_force_sequential_engine_build",
            "trt_context_memory_sharing_enable",
            "trt_layer_norm_fp32_fallback",
            "trt_timing_cache_enable",
            "trt_force_timing_cache",
            "trt_detailed_build_log",
            "trt_build_heuristics_enable",
            "trt_sparsity_enable",
            "trt_cuda_graph_enable",
            "trt_dump_ep_context_model",
        ),
        _BOOL,
    ),
    **dict.fromkeys(
        (
            "trt_engine_cache_path",
            "trt_engine_cache_prefix",
            "trt_timing_cache_path",
            "trt_tactic_sources",
            "trt_extra_plugin_lib_paths",
            "trt_profile_min_shapes",
            "trt_profile_opt_shapes",
            "trt_profile_max_shapes",
            "trt_ep_context_file_path",
        ),
        _TEXT,
    ),
}
# Of the accelerator `cuda`: the options of ONNX Runtime 1.19 that the backend does not set itself.
CUDA = {
    **dict.fromkeys(
        (
            "cudnn_conv_use_max_workspace",
            "enable_cuda_graph",
            "cudnn_conv1d_pad_to_nc1d",
            "tunable_op_enable",
            "tunable_op_tuning_enable",
            "enable_skip_layer_norm_strict_mode",
            "prefer_nhwc",
            "use_ep_level_unified_stream",
            "use_tf32",
        ),
        _BOOL,
    ),
    "tunable_op_max_tuning_duration_ms": _UNSIGNED,
}
# The backend overwrites these with its defaults if a config has any `parameters`, and ours have `profile`.
CUDA_ONLY_IN_PARAMETERS = (
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)


def misread(given: Mapping[str, str], known: Mapping[str, str], reader: str) -> Iterator[str]:
    """A message for each name that `reader` does not read, and for each value that it does not accept."""
    for name, value in given.items():
        if name not in known:
            yield f"{reader} does not read the parameter {name!r}"
        elif not re.fullmatch(known[name], value):
            yield f"{reader} accepts {known[name].removeprefix('(?i:').rstrip(')')} for {name!r}, not {value!r}"
