"""The processes of a server's Python models, and what it leaves in shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True)
class ModelProcess:
    """The process of an instance of a Python model."""

    model: str
    process: psutil.Process

    def runs(self) -> bool:
        """Whether it lives."""
        import psutil

        # Triton does not collect a stub that was killed, so it stays behind as a zombie.
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def model_processes(server: int) -> list[ModelProcess]:
    """The processes of the Python models of a `tritonserver`, by its process id."""
    import psutil  # not above: without the extra `server`, a missing tritonserver is what is to be told

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
    """Deletes the segments whose names begin so."""
    for segment in Path("/dev/shm").glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)
