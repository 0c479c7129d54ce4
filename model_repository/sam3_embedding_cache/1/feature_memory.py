"""Where features are kept: in host memory by numpy, in GPU memory by cupy. Knows nothing of Triton."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

_LIBRARIES = {"host": "numpy", "gpu": "cupy"}
_DLPACK_CPU = 1  # kDLCPU


class LastSent:
    """The tensors that were sent last, which lie in shared memory for as long as they live.

    A user clicks many times on one image: from the second hit in a row on, nothing is copied into shared memory.
    Not thread-safe: a tensor is copied there while it is sent for the first time, so one thread alone may send these.
    """

    def __init__(self, make: Callable[[Any], dict[str, Any]]) -> None:
        """
        Args:
            make: tensors of an embedding, by output name.
        """
        self._make = make
        self._embedding: Any = None
        self._tensors: dict[str, Any] = {}

    def tensors(self, embedding: Any) -> dict[str, Any]:
        """The tensors of an embedding; those of another one are let go of first, which frees their shared memory."""
        if self._embedding is not embedding:
            self._tensors = {}
            self._embedding, self._tensors = embedding, self._make(embedding)
        return self._tensors


class FeatureMemory:
    """Copies tensors that somebody else owns into memory of its own.

    Tensors come and go by DLPack, so that in GPU memory nothing crosses the bus.
    """

    def __init__(self, kind: str) -> None:
        """
        Args:
            kind: "host" or "gpu".

        Raises:
            ValueError: another kind.
            ImportError: "gpu" without cupy.
        """
        if kind not in _LIBRARIES:
            raise ValueError(f"the parameter memory must be one of {', '.join(_LIBRARIES)}, not {kind!r}")
        self.on_gpu = kind == "gpu"
        self._library: Any = importlib.import_module(_LIBRARIES[kind])

    def keep(self, tensor: Any) -> Any:
        """A copy that outlives `tensor` (anything that speaks DLPack, in host memory or on the GPU): an array."""
        device, _ = tensor.__dlpack_device__()
        if device == _DLPACK_CPU:
            return self._library.array(np.from_dlpack(tensor))
        copy = self._library.from_dlpack(tensor).copy()
        # The copy is only ordered on the GPU; its source may be gone when we return.
        self._library.cuda.get_current_stream().synchronize()
        return copy
