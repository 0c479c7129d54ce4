"""Repositories with freshly exported artifacts, created once for the whole run, and servers over them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import golden
import pytest
from repository import copy_repository, free_ports


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the golden checkpoint, exported in the usual formats by `sam3-export`."""
    return _once(tmp_path_factory, "exported", lambda folder: _export_golden(folder, golden.CHECKPOINT))


@pytest.fixture(scope="session")
def exported_unstable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the weights that make mask token 0 unstable."""

    def export(folder: Path) -> None:
        import torch

        content = torch.load(golden.CHECKPOINT, weights_only=True)
        for name in golden.document()["unstable_tensors"]:
            content["model"][name] = content["model"][name].float() * golden.document()["unstable_scale"]
        checkpoint = folder / "sam3_unstable.pt"
        torch.save(content, checkpoint)
        _export_golden(folder, checkpoint)

    return _once(tmp_path_factory, "exported_unstable", export)


@pytest.fixture(scope="session")
def exported_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration checkpoint (no --checkpoint) in every format; the others are only in the usual ones."""
    from sam3_export.formats import FORMATS

    return _once(tmp_path_factory, "exported_demo", lambda folder: _export(folder, "--formats", ",".join(FORMATS)))


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, export: Callable[[Path], None]) -> Path:
    """A repository that `export` has filled. Of several workers (pytest -n) the first to need it exports it for all."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose export failed
            folder.mkdir()
            export(folder)
            done.touch()
    return folder / "model_repository"


def _export_golden(folder: Path, checkpoint: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # PyTorch exports a model of SAM 3's own size differently from a tiny one; use that path here, too.
        patch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 0)
        _export(folder, "--checkpoint", str(checkpoint), "--config", str(golden.CONFIG))


def _export(folder: Path, *arguments: str) -> None:
    from sam3_export.cli import main

    assert main(["--repository", str(copy_repository(folder)), *arguments]) == 0


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
