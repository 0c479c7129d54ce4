"""Shared code of the two stand-in backends: it runs requests of equal shape as one batch and splits the answer.

The stand-ins replace Triton's C++ backends `onnxruntime` and `pytorch` where those are not installed.
Only their `model.py` imports this module, inside Triton's Python backend.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils

from sam3_server.gpu_arrays import GpuArrays


def artifact_path(version_folder: str, config: dict[str, Any]) -> Path:
    """The model file that a config names.

    Raises:
        TritonModelException: the file is missing.
    """
    path = Path(version_folder) / config["default_model_filename"]
    if not path.is_file():
        raise pb_utils.TritonModelException(f"the artifact {path} is missing: run sam3-export")
    return path


def config_of(args: dict[str, str]) -> dict[str, Any]:
    """The model's config from the arguments of `initialize`."""
    return json.loads(args["model_config"])


def artifact_of(args: dict[str, str]) -> Path:
    """The model file from the arguments of `initialize`."""
    return artifact_path(f"{args['model_repository']}/{args['model_version']}", config_of(args))


class Tensors(Protocol):
    """Converts between Triton's tensors and a runtime's."""

    def taken(self, tensor: Any) -> Any:
        """Converts Triton's tensor to the runtime's."""

    def joined(self, tensors: list[Any]) -> Any:
        """Concatenates the runtime's tensors along their first axis."""

    def given(self, name: str, tensor: Any) -> Any:
        """Converts the runtime's tensor to Triton's."""


class NumpyTensors:
    """Arrays in host memory."""

    def taken(self, tensor: Any) -> Any:
        """See `Tensors`."""
        return tensor.as_numpy()

    def joined(self, tensors: list[Any]) -> Any:
        """See `Tensors`."""
        return np.concatenate(tensors)

    def given(self, name: str, tensor: Any) -> Any:
        """See `Tensors`."""
        return pb_utils.Tensor(name, tensor)


class GpuTensors:
    """Arrays on a GPU; those that arrive in host memory, such as a click's coordinates, stay there."""

    def __init__(self, gpu: GpuArrays) -> None:
        self._gpu = gpu

    def taken(self, tensor: Any) -> Any:
        """See `Tensors`."""
        return tensor.as_numpy() if tensor.is_cpu() else self._gpu.of(tensor)

    def joined(self, tensors: list[Any]) -> Any:
        """See `Tensors`."""
        if all(isinstance(one, np.ndarray) for one in tensors):
            return np.concatenate(tensors)
        return self._gpu.joined(tensors)

    def given(self, name: str, tensor: Any) -> Any:
        """See `Tensors`."""
        return pb_utils.Tensor.from_dlpack(name, tensor)


def respond(
    requests: list, input_names: list[str], run: Callable[[dict], dict], tensors: Tensors = NumpyTensors()
) -> list:
    """Runs requests, which Triton has grouped by equal shape, as one batch; returns a response for each."""
    try:
        return _responses(requests, input_names, run, tensors)
    except Exception as error:  # any error of the runtime or the GPU; it fails the whole batch
        pb_utils.Logger.log_error(f"inference failed: {error!r}")
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        failure = pb_utils.TritonError(f"inference failed: {reason}", pb_utils.TritonError.INTERNAL)
        return [pb_utils.InferenceResponse([], failure) for _ in requests]


def _responses(requests: list, input_names: list[str], run: Callable[[dict], dict], tensors: Tensors) -> list:
    inputs = [
        {name: tensors.taken(pb_utils.get_input_tensor_by_name(request, name)) for name in input_names}
        for request in requests
    ]
    # Do not copy a single request: SAM 3's features are 10.6 MB.
    outputs = run(inputs[0] if len(inputs) == 1 else _stacked(inputs, input_names, tensors))
    responses = []
    start = 0
    for request, one in zip(requests, inputs, strict=True):
        stop = start + len(one[input_names[0]])
        wanted = request.requested_output_names()
        responses.append(
            pb_utils.InferenceResponse([tensors.given(name, outputs[name][start:stop]) for name in wanted])
        )
        start = stop
    return responses


def _stacked(inputs: list[dict], input_names: list[str], tensors: Tensors) -> dict:
    return {name: tensors.joined([one[name] for one in inputs]) for name in input_names}
