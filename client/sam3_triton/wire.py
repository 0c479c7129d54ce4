"""The messages between a client and Triton."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sam3_triton.errors import InvalidUrlError, PredictionError

MODEL, CONCEPT_MODEL = "sam3", "sam3_concept"
Arrays = dict[str, np.ndarray]

# The header, and in gRPC the metadata, that names a call's image. A proxy in front of several servers hashes on it, so
# that all calls about an image reach the server that has it in its cache.
IMAGE_ID_HEADER = "x-sam3-image-id"

_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_TRITON_TYPES = {"float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}


@dataclass
class Region:
    """A region of system shared memory that holds one image.

    Attributes:
        name: the name under which it is registered with the server, and the name of its file in /dev/shm.
        size: its capacity in bytes.
        used: bytes in use.
        registered: whether it is registered with the server.
    """

    name: str
    size: int
    used: int = 0
    registered: bool = False

    @property
    def key(self) -> str:
        """The name of its file in /dev/shm, in the form that shm_open takes."""
        return f"/{self.name}"


@dataclass(frozen=True)
class Call:
    """One request to a model, in the terms of the model repository.

    Attributes:
        inputs: arrays by name.
        outputs: names of the requested outputs. Triton skips steps that only other outputs need.
        image_id: of the image that the call concerns, if it concerns one.
        shared: inputs that are in shared memory instead, by name.
    """

    inputs: Arrays
    outputs: tuple[str, ...]
    model: str = MODEL
    image_id: str | None = None
    shared: Mapping[str, Region] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """The call's HTTP headers or gRPC metadata. An id that no image can have is left out, because it may be
        anything."""
        if self.image_id is None or not _IMAGE_ID.fullmatch(self.image_id):
            return {}
        return {IMAGE_ID_HEADER: self.image_id}


@dataclass(frozen=True)
class Address:
    """A Triton's address and protocol."""

    netloc: str
    grpc: bool
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """`host:port` and `grpc://` are gRPC, `http://` is HTTP; `grpcs://` and `https://` use TLS.

        Raises:
            InvalidUrlError: the scheme is another one, or host or port is invalid.
        """
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        try:
            known = parts.scheme in ("grpc", "grpcs", "http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # the port is not a number, or out of range
            known = False
        if not known:
            raise InvalidUrlError(
                f"{url!r} is not a Triton address; use host:port, grpc://host:port or http://host:port"
            )
        return cls(parts.netloc, parts.scheme.startswith("grpc"), parts.scheme in ("grpcs", "https"))


def microseconds(seconds: float) -> int:
    """Converts a timeout to Triton's unit. At least 1, because Triton takes 0 as no timeout."""
    return max(1, int(1e6 * seconds))


def tensors(module: ModuleType, call: Call) -> tuple[list[Any], list[Any]]:
    """Returns inputs and requested outputs as objects of `tritonclient.grpc` or `tritonclient.http`."""
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
    """Returns the requested outputs by name.

    Raises:
        PredictionError: an output is missing.
    """
    found = {name: result.as_numpy(name) for name in call.outputs}
    missing = [name for name, array in found.items() if array is None]
    if missing:
        raise PredictionError(f"the server's answer has no {', '.join(missing)}")
    return found
