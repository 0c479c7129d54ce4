"""Copies of the model repository for exporting and serving, and raw requests to Triton."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

OUTPUTS = ("MASKS", "SCORES", "LOW_RES_LOGITS", "IMAGE_ID", "CACHE_HIT")
PROJECT = Path(__file__).parent.parent
# Linux takes the ports of outgoing connections from 32768 on.
_FIRST_PORT, _PORTS_EACH = 20000, 3000
_TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int32": "INT32",
    "uint8": "UINT8",
    "bool": "BOOL",
    "object": "BYTES",
}


def formats_here(parameters: int = 0) -> list[str]:
    """The formats that `sam3-export` writes on this machine for a network of so many parameters."""
    from sam3_export.errors import ExportError
    from sam3_export.formats import FORMATS

    names = []
    for name, format_ in FORMATS.items():
        with suppress(ExportError):
            format_.writer().check_machine(parameters)
            names.append(name)
    return names


def copy_repository(folder: Path) -> Path:
    """Copies the repository into `folder` without artifacts, and the profiles beside it."""
    ignored = shutil.ignore_patterns("exports", "__pycache__")
    repository = folder / "model_repository"
    shutil.copytree(PROJECT / "model_repository", repository, symlinks=True, ignore=ignored)
    # Links that sam3-export made. They dangle without the artifacts, and "*/1" would not match a link that dangles.
    for path in [*repository.glob("*"), *repository.glob("*/*"), *repository.glob("sam3/concepts/*/*")]:
        if path.is_symlink():
            path.unlink()
    shutil.copytree(PROJECT / "ensemble_configs", folder / "ensemble_configs")
    return repository


def link_artifacts(exported: Path, repository: Path) -> None:
    """Links the artifacts of one repository into another."""
    (repository / "sam3" / "exports").symlink_to(exported / "sam3" / "exports")
    current, concepts = repository / "sam3" / "exports" / "current", repository / "sam3" / "concepts"
    models = components_of(exported)
    for model in models:
        folder = concepts / model if (concepts / model).is_dir() else repository / model
        (folder / "1").symlink_to(os.path.relpath(current / model, folder))
    of_concepts = [folder.name for folder in concepts.iterdir()]
    if set(of_concepts) & set(models):
        for model in of_concepts:
            (repository / model).symlink_to(Path("sam3") / "concepts" / model)


def move_to_cpu(profile: Path) -> None:
    """Rewrites the configs of a copied profile for GPUs, so that its instances run on the CPU."""
    for config in profile.rglob("*.pbtxt"):
        text = config.read_text()
        text = text.replace("kind: KIND_GPU count: 1 gpus: [ 0 ]", "kind: KIND_CPU count: 1")
        text = text.replace('string_value: "gpu" } },\n', 'string_value: "host" } },\n')
        assert "KIND_GPU" not in text
        config.write_text(text)


def components_of(exported: Path) -> list[str]:
    """The models whose artifacts a repository holds, by the report of its export."""
    return list(json.loads((exported / "sam3" / "exports" / "current" / "export.json").read_text())["components"])


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens. Each worker (pytest -n) has a range of its own, below that of outgoing calls."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST_PORT + worker * _PORTS_EACH
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(first, first + _PORTS_EACH), _PORTS_EACH):
        if not _is_taken(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"fewer than {count} free ports from {first} on")


def free_ports_of_fleet(replicas: int) -> list[int]:
    """Ports for `sam3-serve --replicas`: HTTP, gRPC, metrics and health. Those 10 above are free for the first replica,
    and so on."""
    while True:
        (first,) = free_ports(1)
        own = [first + index for index in range(4)]
        if not any(_is_taken(port + 10 * number) for port in own for number in range(replicas + 1)):
            return own


def _is_taken(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def infer(
    client: Any,
    module: Any,
    inputs: dict[str, Any],
    outputs: tuple[str, ...],
    model: str = "sam3",
    timeout_s: float | None = None,
) -> Any:
    """Sends one raw request through tritonclient's `grpc` or `http` module; returns the outputs by name.

    `timeout_s` is for gRPC alone: it raises an error if no answer has come by then.
    """
    tensors = []
    for name, values in inputs.items():
        array = np.array([values], np.object_) if isinstance(values, bytes) else np.asarray(values)
        tensor = module.InferInput(name, list(array.shape), _TYPES[str(array.dtype)])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    limits = {} if timeout_s is None else {"client_timeout": timeout_s}
    result = client.infer(model, tensors, outputs=[module.InferRequestedOutput(name) for name in outputs], **limits)
    return {name: result.as_numpy(name) for name in outputs}
