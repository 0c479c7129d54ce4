"""One replica of the server: a `sam3-serve` in a process of its own, whose output is passed on line by line."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from sam3_server.health import READY
from sam3_server.model_processes import remove_shared_memory
from sam3_server.ports import LOOPBACK, Ports

_OWNER = "SAM3_REPLICA"  # an environment variable that marks all processes of a replica
_SHARED_MEMORY = "shm-region-prefix-name="
_PREFIX = "sam3-serve: "
_STATUS_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Placement:
    """Where a replica runs and listens."""

    number: int
    ports: Ports
    health_port: int
    gpu: str | None = None  # as in CUDA_VISIBLE_DEVICES
    cores: frozenset[int] = field(default_factory=frozenset)  # empty: all

    @property
    def name(self) -> str:
        """The replica's name in logs and in the proxy."""
        return f"replica-{self.number}"


class Replica:
    """A `sam3-serve`, which supervises one Triton; it can be started again after it has ended."""

    def __init__(
        self, placement: Placement, folder: Path, arguments: Sequence[str], flags: Sequence[str], log: IO[str]
    ) -> None:
        """
        Args:
            folder: for temporary files.
            arguments: of `sam3-serve`, besides the ports.
            flags: for `tritonserver`.
            log: receives the output, each line after the replica's name.
        """
        self.placement = placement
        self.error = ""  # the last line of `sam3-serve` itself, which says why it has ended
        self._folder = folder
        self._flags = [*arguments, "--", *flags]
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Starts the process, and returns at once."""
        place = self.placement
        ports = {"http": place.ports.http, "grpc": place.ports.grpc, "metrics": place.ports.metrics}
        ports["health"] = place.health_port
        environment = {**os.environ, "TMPDIR": str(self._folder), _OWNER: str(self._folder)}
        if place.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = place.gpu
        self._folder.mkdir(exist_ok=True)
        self.error = ""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sam3_server.cli"),
                *(f"--{name}-port={port}" for name, port in ports.items()),
                *self._flags,
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only the fleet, which then stops its replicas
        )
        if place.cores:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, place.cores)
        self._reader = threading.Thread(target=self._pass_log_on, args=(self._process,), daemon=True)
        self._reader.start()

    def has_ended(self) -> bool:
        """Whether the process is not running."""
        return self._process is None or self._process.poll() is not None

    def reason(self) -> str:
        """Why a process has ended by itself."""
        assert self._process is not None
        assert self._reader is not None
        self._reader.join(1)  # the last lines
        return self.error or f"sam3-serve ended with exit code {self._process.returncode}"

    def status(self) -> dict[str, str]:
        """The answer of its `/health/ready`; without one, a status "not running" or "starting"."""
        try:
            return json.loads(read(f"http://{LOOPBACK}:{self.placement.health_port}/health/ready"))
        except (OSError, ValueError):
            return {"status": "not running" if self.has_ended() else "starting"}

    def is_ready(self) -> bool:
        """Whether it answers requests."""
        return self.status()["status"] == READY

    def drain(self) -> None:
        """Asks the process to report that it drains, and to end later, after running requests."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Asks the process to end after running requests; a second call cuts them off."""
        if self._process is not None:
            # SIGINT skips the draining. Before a process is ready, it might not have a handler for that yet.
            self._process.send_signal(signal.SIGINT if self.is_ready() else signal.SIGTERM)

    def clean_up(self) -> None:
        """Ends every process that is left, such as those of a supervisor that was killed, and removes their files."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_OWNER) != str(self._folder):
                    continue
                arguments = process.cmdline()
                process.kill()
                for argument in arguments:
                    if _SHARED_MEMORY in argument:
                        remove_shared_memory(argument.partition(_SHARED_MEMORY)[2])
        if self._process is not None:
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pass_log_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(_PREFIX):
                self.error = line.removeprefix(_PREFIX).rstrip()
            self._log.write(f"[{self.placement.name}] {line}")
            self._log.flush()


def read(url: str) -> bytes:
    """The body of an answer, also of an error.

    Raises:
        OSError: no answer.
    """
    request = urllib.request.Request(url)
    try:
        with urllib.request.urlopen(request, timeout=_STATUS_TIMEOUT_S) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.read()
    except http.client.HTTPException as error:  # such as an answer that breaks off
        raise OSError(f"{url}: {error!r}") from error
