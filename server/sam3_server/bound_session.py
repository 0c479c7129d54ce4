"""Runs ONNX Runtime with inputs and outputs bound where they are, so that tensors on a GPU stay there.

Only the stand-in backend imports this module, inside Triton's Python backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from sam3_server.errors import ServerError
from sam3_server.gpu_arrays import GpuArrays
from sam3_server.onnx_providers import Provider, check_available, check_used

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class BoundSession:
    """A session of one ONNX file on one device."""

    def __init__(self, path: Path, options: Any, providers: list[Provider], device: int | None) -> None:
        """
        Args:
            options: `onnxruntime.SessionOptions`.
            providers: from `onnx_providers.requested`.
            device: index of the GPU; None: the CPU.

        Raises:
            ServerError: a requested provider or CuPy is missing, or the file cannot be loaded.
        """
        check_available(providers, onnxruntime.get_available_providers())
        if device is not None:
            onnxruntime.preload_dlls()  # CUDA and cuDNN from wheels, where the dynamic linker does not look
        self.gpu = None if device is None else GpuArrays(device)
        self._place = ("cpu", 0) if device is None else ("cuda", device)
        try:
            # Without enable_fallback=0, ONNX Runtime tries the CPU after an error.
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
        except Exception as error:  # RuntimeError, and classes of ONNX Runtime's own that derive from Exception
            raise ServerError(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}") from error
        check_used(providers, self._session.get_providers(), Path(onnxruntime.__file__).parent / "capi")
        self.input_names = [node.name for node in self._session.get_inputs()]
        self.output_names = [node.name for node in self._session.get_outputs()]
        self._dtypes = {node.name: _DTYPES[node.type] for node in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the model once.

        Args:
            inputs: arrays in host memory (numpy) or on the session's GPU (CuPy).

        Returns:
            All outputs, on the session's device, in ONNX Runtime's own memory.
        """
        binding = self._session.io_binding()
        bound = []  # ONNX Runtime reads these buffers but does not keep them
        for name, array in inputs.items():
            if isinstance(array, np.ndarray):
                array = np.ascontiguousarray(array)
                place, address = ("cpu", 0), array.ctypes.data
            else:
                place, address = self._place, array.data.ptr
            bound.append(array)
            binding.bind_input(name, *place, array.dtype, array.shape, address)
        for name in self.output_names:
            binding.bind_output(name, *self._place)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        values = zip(self.output_names, binding.get_outputs(), strict=True)
        return {name: self._array(value, self._dtypes[name]) for name, value in values}

    def _array(self, value: Any, dtype: Any) -> Any:
        """An output as an array, without a copy."""
        if self.gpu is None:
            return value.numpy()
        return self.gpu.view(value.data_ptr(), value.shape(), dtype, value)
