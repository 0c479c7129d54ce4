"""Whether Triton can run a backend on this machine: natively, or in a stand-in whose runtime is installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from sam3_server.errors import ServerError

_PACKAGES = {"onnxruntime": "onnxruntime", "pytorch": "torch"}
_TIMEOUT_S = 120
# Exits with 1 if the runtime has no support for CUDA. In a process of its own, because torch takes gigabytes of memory.
_HAS_CUDA = {
    "onnxruntime": "import onnxruntime as o, sys; sys.exit('CUDAExecutionProvider' not in o.get_available_providers())",
    "pytorch": "import torch, sys; sys.exit(not torch.cuda.is_available())",
}
_INSTALL = {
    ("onnxruntime", False): "pip install './server[triton]'",
    ("onnxruntime", True): "in a fresh environment: pip install './server[gpu]'",
    ("pytorch", False): "pip install torch",
    ("pytorch", True): "install PyTorch for this machine's driver (pytorch.org)",
}


def is_native(backend: str) -> bool:
    """Whether a `tritonserver` on the PATH (NVIDIA's container) has the C++ backend."""
    server = shutil.which("tritonserver")
    if server is None:
        return False
    return (Path(server).resolve().parent.parent / "backends" / backend / f"libtriton_{backend}.so").is_file()


def fault(backend: str, on_gpu: bool) -> str | None:
    """Why models of `backend` cannot run on the CPU or the GPU here, and what helps; None if they can.

    Raises:
        ServerError: its runtime does not say in time whether it has CUDA.
    """
    package, install = _PACKAGES[backend], _INSTALL[backend, on_gpu]
    if not is_native(backend):
        if not _is_installed(package):
            return f"{package} is not installed ({install})"
        if on_gpu and not _has_cuda(backend):
            return f"the installed {package} cannot use the GPU ({install})"
    if on_gpu and not _is_installed("cupy"):
        return "CuPy, which keeps features on the GPU, is not installed (pip install 'cupy-cuda12x<14')"
    return None


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@cache
def _has_cuda(backend: str) -> bool:
    command = [sys.executable, "-c", _HAS_CUDA[backend]]
    try:
        return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired as error:
        fault = f"{_PACKAGES[backend]} takes more than {_TIMEOUT_S} s to find a GPU; choose a profile with --profile"
        raise ServerError(fault) from error
