"""Copies of the model repository for exporting and serving, and raw requests to Triton."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np

OUTPUTS = ("MASKS", "SCORES", "LOW_RES_LOGITS", "IMAGE_ID", "CACHE_HIT")
PROJECT = Path(__file__).parent.parent
_TYPES = {"float32": "FP32", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}


def copy_repository(folder: Path) -> Path:
    """Copies the repository into `folder` without artifacts, and the profiles beside it."""
    ignored = shutil.ignore_patterns("exports", "__pycache__")
    repository = folder / "model_repository"
    shutil.copytree(PROJECT / "model_repository", repository, symlinks=True, ignore=ignored)
    for model in ("sam3_image_encoder", "sam3_mask_decoder"):
        (repository / model / "1").unlink(missing_ok=True)
    shutil.copytree(PROJECT / "ensemble_configs", folder / "ensemble_configs")
    return repository


def link_artifacts(exported: Path, repository: Path) -> None:
    """Links the artifacts of one repository into another."""
    (repository / "sam3" / "exports").symlink_to(exported / "sam3" / "exports")
    for model in ("sam3_image_encoder", "sam3_mask_decoder"):
        (repository / model / "1").symlink_to(Path("..") / "sam3" / "exports" / "current" / model)


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def infer(client: Any, module: Any, inputs: dict[str, Any], outputs: tuple[str, ...], model: str = "sam3") -> Any:
    """Sends one raw request through tritonclient's `grpc` or `http` module; returns the outputs by name."""
    tensors = []
    for name, values in inputs.items():
        array = np.array([values], np.object_) if isinstance(values, bytes) else np.asarray(values)
        tensor = module.InferInput(name, list(array.shape), _TYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    result = client.infer(model, tensors, outputs=[module.InferRequestedOutput(name) for name in outputs])
    return {name: result.as_numpy(name) for name in outputs}
