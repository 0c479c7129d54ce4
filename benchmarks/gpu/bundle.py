"""Packs what `python -m benchmarks gpu` needs on a machine without a network, into one archive."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks import PROJECT
from benchmarks.gpu.overlay import unpack

# What a machine with PyTorch, transformers and the packages of sam3-export lacks. CuPy 14 needs numpy 2, with which
# Triton 2.51's Python backend crashes.
_WHEELS = (
    "nvidia-pytriton==0.7.0", "numpy==1.26.4", "tritonclient>=2.50,<3", "python-rapidjson>=1.20", "isal>=1.7,<2",
    "protobuf>=6,<7", "cupy-cuda13x==13.6.0", "fastrlock>=0.8",
)  # fmt: skip
_PLATFORMS = ("manylinux_2_35", "manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014",
              "manylinux1")  # fmt: skip
_SOURCES = (
    "benchmarks",
    "client/sam3_triton",
    "ensemble_configs",
    "export/sam3_export",
    "model_repository",
    "server/sam3_server",
    "tests/data/golden/*.png",  # the photos of the clicks
)
# Of the dry run only, and figures of other runs.
_WITHOUT = {"sam3_demo.pt", "results"}
# What no stage uses: compiled sorting and reductions of CuPy, tests, and the library of Python 3.13.
_UNUSED = ("cupy/cuda/thrust*.so", "cupy/cuda/cub*.so", "numpy/**/tests", "nvidia_pytriton.libs/libpython3*.so*")
_NAME = "sam3-gpu"


def pack(archive: Path, python: str) -> None:
    """Writes the archive: a folder with the sources, and one with unpacked packages for a version of Python."""
    with tempfile.TemporaryDirectory(prefix="sam3-bundle-") as folder:
        root, wheels = Path(folder) / _NAME, Path(folder) / "wheels"
        _copy_sources(root)
        _download(wheels, python)
        packages = root / "packages"
        for wheel in wheels.glob("*.whl"):
            unpack(wheel, packages)
        for stub in (packages / "pytriton" / "tritonserver" / "python_backend_stubs").iterdir():
            if stub.name != python:
                shutil.rmtree(stub)
        for pattern in _UNUSED:
            for path in packages.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(root, _NAME)


def _copy_sources(root: Path) -> None:
    command = ["git", "-C", str(PROJECT), "ls-files", "-z", *_SOURCES]
    for name in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0"):
        path = Path(name)
        if not name or _WITHOUT.intersection(path.parts):
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, root / path, follow_symlinks=False)


def _download(folder: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    subprocess.run([*command, *(f"--platform={name}_x86_64" for name in _PLATFORMS), *_WHEELS], check=True)


def main() -> None:
    """Packs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.bundle", description=__doc__)
    parser.add_argument("archive", type=Path, help="a .tar.xz file")
    parser.add_argument("--python", default="3.12", metavar="3.N", help="of the other machine (default: %(default)s)")
    options = parser.parse_args()
    pack(options.archive, options.python)
    print(
        f"Wrote {options.archive}, {options.archive.stat().st_size / 2**20:.1f} MiB. On the other machine: "
        f"tar xf {options.archive.name} && cd {_NAME} && python3 -m benchmarks gpu --packages packages --output FOLDER"
    )


if __name__ == "__main__":
    main()
