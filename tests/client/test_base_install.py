"""The client alone: what its installation brings, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "onnx", "onnxruntime", "fastapi", "uvicorn", "pydantic", "opencv-python-headless"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the base installation and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    return python


def test_it_brings_no_torch_onnx_or_web_framework(python: Path) -> None:
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"sam3-triton", "numpy", "pillow", "tritonclient"} <= names
    assert not names & HEAVY


def test_client_and_command_work_in_it(python: Path) -> None:
    code = "import sam3_triton, sam3_triton.cli; sam3_triton.Sam3Client('localhost:1').close()"
    subprocess.run([str(python), "-c", code], check=True)
    for command in (["--help"], ["predict", "--help"]):
        subprocess.run([str(python.with_name("sam3")), *command], check=True, capture_output=True)


def test_what_is_missing_for_the_gateway_is_told(python: Path) -> None:
    result = subprocess.run([str(python.with_name("sam3")), "gateway"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "is not installed; it comes with the extra gateway: pip install '.[gateway]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_client_imports_no_torch_onnx_or_web_framework() -> None:
    code = (
        "import sys, sam3_triton, sam3_triton.cli; "
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnxruntime', 'fastapi', 'uvicorn', 'pydantic', "
        "'cv2', 'sam3_export', 'sam3_server') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
