"""Finds the processes of a server's Python models, and removes its shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ModelProcess:
    """The process of one instance of a Python model."""

    model: str
    process: psutil.Process

    def runs(self) -> bool:
        """Whether the process is alive."""
        # Triton does not reap a killed stub, so it remains as a zombie.
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def model_processes(server: int) -> list[ModelProcess]:
    """The processes of a `tritonserver`'s Python models; `server` is its process id."""
    found = []
    for process in psutil.Process(server).children():
        if process.status() == psutil.STATUS_ZOMBIE:
            continue
        arguments = process.cmdline()
        # The Python backend starts each as `stub <repository>/<model>/<version>/model.py ...`.
        if len(arguments) > 1 and "python_backend_stub" in arguments[0]:
            found.append(ModelProcess(Path(arguments[1]).parent.parent.name, process))
    return found


def remove_shared_memory(prefix: str) -> None:
    """Deletes the shared memory segments whose names start with `prefix`."""
    for segment in Path("/dev/shm").glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)
