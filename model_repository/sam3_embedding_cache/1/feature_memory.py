"""Where features are kept: in host memory by numpy, in GPU memory by cupy. Knows nothing of Triton."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_LIBRARIES = {"host": "numpy", "gpu": "cupy"}
_DLPACK_CPU = 1  # kDLCPU


class RecentlySent:
    """The tensors of the embeddings that were sent last, which lie in shared memory for as long as they live.

    Users click many times on an image, and in turns: what is sent again soon is not copied into shared memory again.
    Not thread-safe: a tensor is copied there while it is sent for the first time, so one thread alone may send these.
    """

    def __init__(self, make: Callable[[Any], dict[str, Any]], images: int) -> None:
        """
        Args:
            make: tensors of an embedding, by output name.
            images: how many embeddings' tensors live at one time.
        """
        self._make = make
        self._images = images
        # By the embedding's identity, which is kept beside them; least recently sent first.
        self._sent: OrderedDict[int, tuple[Any, dict[str, Any]]] = OrderedDict()

    def tensors(self, embedding: Any) -> dict[str, Any]:
        """The tensors of an embedding; where they are new, those sent longest ago are let go of first, which frees
        their shared memory."""
        key = id(embedding)
        if key not in self._sent:
            while len(self._sent) >= self._images:
                self._sent.popitem(last=False)
            self._sent[key] = embedding, self._make(embedding)
        self._sent.move_to_end(key)
        return self._sent[key][1]


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
