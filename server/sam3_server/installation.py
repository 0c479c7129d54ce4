"""Finds a `tritonserver` to run: the one on the PATH (NVIDIA's container), else the one in the wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from sam3_server.errors import ServerError

_PACKAGE = Path(__file__).parent
# By default glibc's malloc returns memory to the system after every free of a few MB. Each click would then page in
# SAM 3's features (10.6 MB) again, in the server and in its Python models. In bytes: how much free memory malloc keeps,
# and from which size on it maps each allocation separately (32 MB is the largest value that it accepts).
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


@dataclass(frozen=True)
class Installation:
    """A `tritonserver` and its environment variables; `backend_directory` None means its own backends."""

    binary: Path
    backend_directory: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def find() -> Iterator[Installation]:
    """Yields the installation to use; the folder of stand-in backends is deleted when the context ends.

    Raises:
        ServerError: no `tritonserver` was found, or this Python cannot run inside it.
    """
    if on_path := shutil.which("tritonserver"):
        yield Installation(Path(on_path), environment=_MALLOC)
        return
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("no tritonserver on the PATH and no wheel with one; run: pip install './server[triton]'")
    package = Path(spec.submodule_search_locations[0])
    with TemporaryDirectory(prefix="sam3-backends-") as folder:
        _lay_out_backends(Path(folder), package / "tritonserver")
        binary = package / "tritonserver" / "bin" / "tritonserver"
        yield Installation(binary, Path(folder), _environment(package))


def _lay_out_backends(folder: Path, triton: Path) -> None:
    """Fills `folder` with Triton's Python backend, its stub for this Python version, and the stand-ins."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ServerError(f"the tritonserver wheel has no Python backend for Python {version}; use 3.10, 3.11 or 3.12")
    python = folder / "python"
    python.mkdir()
    # Copy, because Triton rejects a backend library that links out of the backend directory.
    shutil.copy(stub, python)
    shutil.copy(triton / "backends" / "python" / "libtriton_python.so", python)
    shutil.copy(triton / "backends" / "python" / "triton_python_backend_utils.py", python)
    for standin in (_PACKAGE / "backends").iterdir():
        if (standin / "model.py").is_file():
            (folder / standin.name).symlink_to(standin)


def _environment(package: Path) -> dict[str, str]:
    """Variables by which the server finds its libraries, libpython, and this environment's packages."""
    libraries = [_libpython_folder(), str(package.parent / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH")]
    return {
        **_MALLOC,
        "LD_LIBRARY_PATH": os.pathsep.join(path for path in libraries if path),
        # The Python inside Triton ignores PYTHONPATH. It imports from the environment of the first python3 on the
        # PATH, so this Python's folder comes first.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def _libpython_folder() -> str:
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    name = sysconfig.get_config_var("INSTSONAME") or ""
    candidates = [folder, folder / (sysconfig.get_config_var("MULTIARCH") or "")]
    for candidate in candidates:
        if ".so" in name and (candidate / name).exists():
            return str(candidate)
    raise ServerError(
        f"{sys.base_prefix} has no shared libpython, which Triton's Python backend needs: "
        "use a Python built with --enable-shared (Debian's: apt-get install libpython3-dev)"
    )
