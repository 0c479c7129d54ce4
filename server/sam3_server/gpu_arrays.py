"""Arrays on a GPU for the ONNX Runtime stand-in. CuPy only copies here: its kernels would need a compiler for CUDA."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sam3_server.errors import ServerError


class GpuArrays:
    """CuPy's arrays on one GPU."""

    def __init__(self, device: int) -> None:
        """
        Args:
            device: index of the GPU.

        Raises:
            ServerError: CuPy is not installed.
        """
        try:
            self._cupy: Any = importlib.import_module("cupy")
        except ImportError as error:
            raise ServerError("tensors on a GPU need CuPy; run: pip install './server[gpu]'") from error
        self.device = device

    def of(self, tensor: Any) -> Any:
        """An array that shares the memory of a DLPack tensor on the GPU."""
        return self._cupy.from_dlpack(tensor)

    def view(self, address: int, shape: Sequence[int], dtype: Any, owner: Any) -> Any:
        """An array over memory that `owner` holds."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._cupy.cuda.UnownedMemory(address, size, owner, self.device)
        return self._cupy.ndarray(tuple(shape), dtype, self._cupy.cuda.MemoryPointer(memory, 0))

    def joined(self, arrays: Sequence[Any]) -> Any:
        """Concatenates contiguous arrays of CuPy and numpy along their first axis."""
        with self._cupy.cuda.Device(self.device):
            joined = self._cupy.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
            start = 0
            for one in arrays:
                stop = start + len(one)
                if isinstance(one, np.ndarray):
                    joined[start:stop].set(one)
                else:
                    joined[start:stop].data.copy_from_device(one.data, one.nbytes)
                start = stop
            self._cupy.cuda.runtime.deviceSynchronize()  # ONNX Runtime reads them on a stream of its own
        return joined
