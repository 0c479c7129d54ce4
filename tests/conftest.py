"""Repositories with freshly exported artifacts, created once for the whole run, and servers over them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import golden
import golden_concepts
import pytest
from repository import copy_repository, formats_here, free_ports


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the golden checkpoint, exported in the usual formats by `sam3-export`."""
    return _repository(tmp_path_factory, "golden")


@pytest.fixture(scope="session")
def exported_unstable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the weights that make mask token 0 unstable."""
    return _repository(tmp_path_factory, "unstable")


@pytest.fixture(scope="session")
def exported_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[golden.Case], Path]:
    """The repository with the weights that a golden case needs."""
    return lambda case: _repository(tmp_path_factory, case.weights)


@pytest.fixture(scope="session")
def exported_concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint with concept prompts, in the usual formats and onnx-fp16."""
    return _repository(tmp_path_factory, "golden_concepts")


@pytest.fixture(scope="session")
def exported_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration checkpoint's clicks, in every format that this machine can write."""
    return _repository(tmp_path_factory, "demo")


@pytest.fixture(scope="session")
def exported_demo_concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration checkpoint with concept prompts, in the usual formats and onnx-fp16."""
    return _repository(tmp_path_factory, "demo_concepts")


@pytest.fixture(scope="session", autouse=True)
def _export_ahead(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With several workers (make test) each begins with an export that no other has begun, so that none waits long."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in _EXPORTS:
            with suppress(BlockingIOError):
                _repository(tmp_path_factory, name, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture(scope="module")
def steady_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps browsers and containers apart: a network that comes or goes breaks a browser's requests, to any address."""
    with (_shared(tmp_path_factory) / "network.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


def _repository(tmp_path_factory: pytest.TempPathFactory, name: str, lock_flags: int = fcntl.LOCK_EX) -> Path:
    """The repository with a checkpoint; the first worker to ask for it exports it for all.

    Raises:
        BlockingIOError: another worker is exporting it, and the flags say not to wait.
    """
    root = _shared(tmp_path_factory)
    folder, done = root / f"exported-{name}", root / f"exported-{name}.done"
    with (root / f"exported-{name}.lock").open("w") as lock:
        fcntl.flock(lock, lock_flags)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose export failed
            folder.mkdir()
            _EXPORTS[name](folder)
            done.touch()
    return folder / "model_repository"


def _export_unstable(folder: Path, cases: Path, source: Path) -> None:
    import torch

    content = torch.load(source, weights_only=True)
    tensors = content.get("model", content)
    for name in golden.document(cases)["unstable_tensors"]:
        tensors[name] = tensors[name].float() * golden.document(cases)["unstable_scale"]
    checkpoint = folder / "unstable.pt"
    torch.save(content, checkpoint)
    _export_golden(folder, checkpoint)


def _export_demo(folder: Path) -> None:
    _export(folder, "--formats", ",".join(formats_here()), "--components", "clicks")


def _export_demo_concepts(folder: Path) -> None:
    _export(folder, "--formats", "onnx,onnx-fp16,torchscript")


def _export_golden(folder: Path, checkpoint: Path, config: Path = golden.CONFIG, formats: str = "") -> None:
    with pytest.MonkeyPatch.context() as patch:
        # PyTorch exports a model of SAM 3's own size differently from a tiny one; use that path here, too.
        patch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
        chosen = ["--formats", formats] if formats else []
        _export(folder, "--checkpoint", str(checkpoint), "--config", str(config), *chosen)


def _export(folder: Path, *arguments: str) -> None:
    from sam3_export.cli import main

    assert main(["--repository", str(copy_repository(folder)), *arguments]) == 0


# Each writes its repository into a folder.
_EXPORTS: dict[str, Callable[[Path], None]] = {
    "golden": partial(_export_golden, checkpoint=golden.CHECKPOINT),
    "golden_concepts": partial(
        _export_golden,
        checkpoint=golden_concepts.CHECKPOINT,
        config=golden_concepts.CONFIG,
        formats="onnx,onnx-fp16,torchscript",
    ),
    "demo": _export_demo,
    "demo_concepts": _export_demo_concepts,
    "unstable": partial(_export_unstable, cases=golden.FOLDER, source=golden.CHECKPOINT),
    "golden_31": partial(_export_golden, checkpoint=golden.CHECKPOINT_31),
    "unstable_31": partial(_export_unstable, cases=golden.FOLDER_31, source=golden.CHECKPOINT_31),
}


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A function that starts a server for a repository and a profile, or returns the one already running."""
    from sam3_server import Ports, TritonServer

    servers: dict[tuple[Path, str | None], TritonServer] = {}
    with ExitStack() as stack:

        def start(repository: Path, profile: str | None = None) -> TritonServer:
            if (repository, profile) not in servers:
                log = stack.enter_context((tmp_path_factory.mktemp("triton") / "triton.log").open("w"))
                server = TritonServer(repository, log, profile, Ports(*free_ports(3)))
                server.start()
                stack.callback(server.stop, grace_s=0)  # an orderly stop takes seconds each
                servers[repository, profile] = server
            return servers[repository, profile]

        yield start


@pytest.fixture(scope="session")
def server(serve, exported: Path):
    """The server that most tests use, with ONNX artifacts and no profile."""
    return serve(exported)


@pytest.fixture(scope="session")
def demo_server(serve, exported_demo: Path):
    """For tests that encode many images: the demonstration model takes a quarter of the golden one's time for each."""
    return serve(exported_demo)


@pytest.fixture(scope="session")
def gateway(server) -> Iterator[str]:
    """The URL of a `sam3-gateway` in front of `server`, in its own process."""
    from processes import run_gateway

    with run_gateway(server.grpc_url) as url:
        yield url
