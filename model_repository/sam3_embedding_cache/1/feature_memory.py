"""Keeps features in host memory (numpy) or GPU memory (cupy). Independent of Triton."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_LIBRARIES = {"host": "numpy", "gpu": "cupy"}
_DLPACK_CPU = 1  # kDLCPU


class RecentlySent:
    """The tensors of the embeddings that were sent last. They stay in shared memory as long as they exist.

    Users click many times on an image, so features that are sent again soon are not copied into shared memory again.
    Not thread-safe: the first send copies a tensor there, so only one thread may send these tensors.
    """

    def __init__(self, make: Callable[[Any], dict[str, Any]], images: int) -> None:
        """
        Args:
            make: makes the tensors of an embedding, by output name.
            images: how many embeddings' tensors to keep.
        """
        self._make = make
        self._images = images
        # By id() of the embedding, which is kept beside its tensors; least recently sent first.
        self._sent: OrderedDict[int, tuple[Any, dict[str, Any]]] = OrderedDict()

    def tensors(self, embedding: Any) -> dict[str, Any]:
        """The tensors of an embedding. Before it makes new ones, it releases those sent longest ago, which frees
        their shared memory."""
        key = id(embedding)
        if key not in self._sent:
            while len(self._sent) >= self._images:
                self._sent.popitem(last=False)
            self._sent[key] = embedding, self._make(embedding)
        self._sent.move_to_end(key)
        return self._sent[key][1]


class FeatureMemory:
    """Copies Triton's tensors into memory of its own.

    Tensors are exchanged by DLPack, so those in GPU memory never leave the GPU.
    """

    def __init__(self, kind: str) -> None:
        """
        Args:
            kind: "host" or "gpu".

        Raises:
            ValueError: `kind` is neither of these.
            ImportError: `kind` is "gpu", but cupy is not installed.
        """
        if kind not in _LIBRARIES:
            raise ValueError(f"the parameter memory must be one of {', '.join(_LIBRARIES)}, not {kind!r}")
        self.on_gpu = kind == "gpu"
        self._library: Any = importlib.import_module(_LIBRARIES[kind])

    def keep(self, tensor: Any) -> Any:
        """Copies `tensor` (any DLPack tensor, in host memory or on the GPU) into an array that outlives it."""
        device, _ = tensor.__dlpack_device__()
        if device == _DLPACK_CPU:
            return self._library.array(np.from_dlpack(tensor))
        copy = self._library.from_dlpack(tensor).copy()
        # The copy is asynchronous, and its source may be gone when we return.
        self._library.cuda.get_current_stream().synchronize()
        return copy
