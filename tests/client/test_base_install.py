"""The client alone: what it installs and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "client"
HEAVY = {"torch", "transformers", "onnx", "onnxruntime", "fastapi", "uvicorn", "pydantic", "opencv-python-headless"}
ONLY_FOR_HTTP = {"aiohttp", "gevent", "geventhttpclient"}
ONLY_FOR_STORES = {"fsspec", "s3fs", "gcsfs"}
# 143 to 151 MB were measured on Python 3.10 to 3.13; numpy and grpcio grow by themselves.
LARGEST_MB = 170
# Part of every environment.
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with only the base installation."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(CLIENT)], check=True)
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs that environment's `sam3`."""
    return subprocess.run([str(python.with_name("sam3")), *arguments], capture_output=True, text=True, timeout=60)


def test_it_brings_no_torch_onnx_or_web_framework(python: Path) -> None:
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"sam3-triton", "numpy", "pillow", "tritonclient"} <= names
    assert not names & (HEAVY | ONLY_FOR_HTTP | ONLY_FOR_STORES)


def test_it_is_small(python: Path) -> None:
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    sizes = {path.relative_to(site): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    own = [size for path, size in sizes.items() if path.parts[0].startswith("sam3")]
    assert own
    assert sum(own) < 1e6  # no weights
    assert sum(size for path, size in sizes.items() if not path.parts[0].startswith(NOT_OURS)) < LARGEST_MB * 1e6


def test_client_and_command_work_in_it(python: Path) -> None:
    code = "import sam3_triton, sam3_triton.cli; sam3_triton.Sam3Client('localhost:1').close()"
    subprocess.run([str(python), "-c", code], check=True)
    for command in (["--help"], ["predict", "--help"]):
        assert run(python, *command).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["gateway"], "sam3-gateway is not installed: pip install ./client ./gateway"),
        (["probe", "--url", "http://localhost:1"], "needs the extra `http`: pip install './client[http]'"),
        (["doctor", "--url", "http://localhost:1"], "needs the extra `http`: pip install './client[http]'"),
        (
            ["batch", "s3://bucket/photos", "--prompts", "prompts.jsonl", "-o", "masks"],
            "s3://bucket/photos needs the extra `s3`: pip install './client[s3]'",
        ),
    ],
)
def test_missing_packages_are_reported(python: Path, arguments: list[str], advice: str) -> None:
    result = run(python, *arguments)
    assert result.returncode == 1
    assert advice in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_asynchronous_client_names_the_missing_extra_too(python: Path) -> None:
    code = (
        "import sam3_triton\n"
        "try: sam3_triton.AsyncSam3Client('http://localhost:1')\n"
        "except sam3_triton.MissingExtraError as error: print(error)"
    )
    result = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    assert "./client[http]" in result.stdout


def test_the_client_imports_no_torch_onnx_or_web_framework() -> None:
    code = (
        "import sys, sam3_triton, sam3_triton.cli; "
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnxruntime', 'fastapi', 'uvicorn', 'pydantic', "
        "'cv2', 'sam3_export', 'sam3_server') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
