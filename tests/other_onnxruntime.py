"""Another release of ONNX Runtime than the installed one, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sam3_export.spec import Arrays

# What pip says if no index answers.
_UNREACHABLE = re.compile(r"NewConnectionError|ConnectTimeoutError|NameResolutionError|ProxyError")


@dataclass(frozen=True)
class OtherOnnxRuntime:
    """One release, which runs on the CPU."""

    version: str
    _process: ProcessPoolExecutor

    @classmethod
    def install(cls, version: str, folder: Path) -> OtherOnnxRuntime:
        """Installs the release into a folder; skips the test if no package index can be reached."""
        package = f"onnxruntime=={version}"
        arguments = ["--quiet", "--no-deps", "--only-binary=:all:", "--target", str(folder), package]
        pip = subprocess.run([sys.executable, "-m", "pip", "install", *arguments], capture_output=True, text=True)
        if pip.returncode and _UNREACHABLE.search(pip.stderr):
            pytest.skip(f"no package index can be reached for {package}")
        assert pip.returncode == 0, pip.stderr
        process = ProcessPoolExecutor(1, get_context("spawn"), initializer=_prefer, initargs=(str(folder),))
        assert process.submit(_version).result() == version
        return cls(version, process)

    def load(self, path: Path) -> OtherArtifact:
        """An `Artifact` for the gate."""
        return OtherArtifact(self._process, path)


@dataclass(frozen=True)
class OtherArtifact:
    """A file, loaded anew for each run."""

    process: ProcessPoolExecutor
    path: Path

    def declared(self) -> None:
        """Not read: that is the installed release's work."""

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, by name."""
        return self.process.submit(_run, str(self.path), inputs).result()


def _prefer(folder: str) -> None:
    sys.path.insert(0, folder)


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _run(path: str, inputs: Arrays) -> Arrays:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; it warns that the CPU has no kernels for fp16
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
