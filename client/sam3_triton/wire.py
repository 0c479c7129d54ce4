"""What travels between a client and Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sam3_triton.errors import InvalidUrlError, PredictionError

MODEL = "sam3"
Arrays = dict[str, np.ndarray]

_TRITON_TYPES = {"float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
# gRPC waits ever longer between attempts to connect, up to two minutes, and refuses calls meanwhile: a server
# that is back would seem to be gone. Given arguments, tritonclient leaves out its own, the lengths.
CHANNEL_ARGUMENTS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass
class Region:
    """System shared memory that holds one image.

    Attributes:
        name: of the region, by which the server knows it once it is registered; its key in /dev/shm is the same.
        size: bytes it can hold.
        used: bytes it holds now.
        registered: whether the server was told of it.
    """

    name: str
    size: int
    used: int = 0
    registered: bool = False

    @property
    def key(self) -> str:
        """Its file in /dev/shm, as shm_open wants it."""
        return f"/{self.name}"


@dataclass(frozen=True)
class Call:
    """One request to a model, in the terms of the model repository.

    Attributes:
        inputs: by name.
        outputs: the names of those that are asked for; Triton skips the steps that only others need.
        shared: inputs that lie in shared memory instead.
    """

    inputs: Arrays
    outputs: tuple[str, ...]
    model: str = MODEL
    shared: Mapping[str, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Address:
    """Where a Triton listens, and how it is spoken to."""

    netloc: str
    grpc: bool
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """`host:port` and `grpc://` are gRPC, `http://` is HTTP; `grpcs://` and `https://` use TLS.

        Raises:
            InvalidUrlError: a URL of another kind.
        """
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        try:
            known = parts.scheme in ("grpc", "grpcs", "http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, or none that there is
            known = False
        if not known:
            raise InvalidUrlError(f"{url!r} is no address of a Triton: host:port, grpc://host:port or http://host:port")
        return cls(parts.netloc, parts.scheme.startswith("grpc"), parts.scheme in ("grpcs", "https"))


def microseconds(seconds: float) -> int:
    """Triton's unit of a request's timeout."""
    return max(1, int(1e6 * seconds))


def tensors(module: ModuleType, call: Call) -> tuple[list[Any], list[Any]]:
    """Inputs and requested outputs as objects of `tritonclient.grpc` or `tritonclient.http`."""
    inputs = []
    for name, array in call.inputs.items():
        tensor = module.InferInput(name, list(array.shape), _TRITON_TYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    for name, region in call.shared.items():
        tensor = module.InferInput(name, [1], "BYTES")
        tensor.set_shared_memory(region.name, region.used)
        inputs.append(tensor)
    return inputs, [module.InferRequestedOutput(name) for name in call.outputs]


def arrays(result: Any, call: Call) -> Arrays:
    """The outputs that were asked for.

    Raises:
        PredictionError: one of them is missing.
    """
    found = {name: result.as_numpy(name) for name in call.outputs}
    missing = [name for name, array in found.items() if array is None]
    if missing:
        raise PredictionError(f"the server's answer lacks {', '.join(missing)}")
    return found
