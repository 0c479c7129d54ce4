"""Starts `tritonserver` on a model repository, waits until it serves, and stops it without leaving anything behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO

from sam3_triton import DeadlineExceededError, Sam3Client, Sam3Error, ServerUnavailableError

from sam3_server import installation, profiles
from sam3_server.choice import check_needs
from sam3_server.errors import ServerError
from sam3_server.layout import SWAP_LOCK, check_artifacts
from sam3_server.model_processes import ModelProcess, model_processes, remove_shared_memory
from sam3_server.ports import LOOPBACK, Ports, check_free

# SAM 3 at full size takes two minutes to load and answer its first click on two cores, more with a slow disk.
READY_TIMEOUT_S = 600.0
# How long a stopping server waits for running requests before it is killed.
STOP_TIMEOUT_S = 30
# A third of the interval at which the client pings, so that pings that are late by chance are no fault.
_PING_INTERVAL_MS = 10_000

_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_TABLE_FAILURE = re.compile(r"\| (?P<model>\w+) +\| \d+ +\| UNAVAILABLE: (?P<reason>.*?) *\|?$")
_KIND = re.compile(r"^(\w[\w ]*: )?(TritonModelException: )?")


class TritonServer:
    """A running Triton, as a context manager; `log` receives its output."""

    def __init__(
        self,
        repository: Path,
        log: IO[str],
        profile: str | None = None,
        ports: Ports = Ports(),
        address: str = LOOPBACK,
        flags: Sequence[str] = (),
    ) -> None:
        """
        Args:
            profile: a folder of `ensemble_configs/` beside the repository; None: the repository's own configs.
            flags: more flags for `tritonserver`.
        """
        self.repository = repository
        self.profile = profile
        self.ports = ports
        self.address = address
        self.flags = tuple(flags)
        self._log = log
        self._failures: list[str] = []
        self._cleanup = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._models: list[ModelProcess] = []
        self._served = repository

    @property
    def http_url(self) -> str:
        """Host and port of the HTTP endpoint."""
        return f"{self.address}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        """Host and port of the gRPC endpoint."""
        return f"{self.address}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics."""
        return f"http://{self.address}:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int:
        """Process id of the `tritonserver`."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and returns once it has answered a first click.

        Raises:
            ServerError: a port is in use, an artifact is missing, a model fails to load, ...
        """
        self._failures.clear()
        deadline = time.monotonic() + READY_TIMEOUT_S
        try:
            self._check()
            with _loading(self.repository):
                self._served = self._repository_with_profile()
                self._launch()
                self._wait_until_ready(deadline)
            self._models = model_processes(self.pid)
            self._warm_up(deadline)
        except BaseException:
            self.stop()
            raise

    def fault(self) -> str | None:
        """Describes the process of a started server that has ended; None if all are running.

        Triton does not restart the process of a Python model, and stays "ready" without it.
        """
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            return f"tritonserver ended by itself with exit code {code}"
        for one in self._models:
            if not one.runs():
                return f"the process of the model {one.model} (pid {one.process.pid}) has died"
        return None

    def stop(self, grace_s: float = STOP_TIMEOUT_S + 5) -> None:
        """Stops the server and everything that it started; does nothing if it is not running.

        Args:
            grace_s: seconds that running requests may take before they are cut off.
        """
        with self._cleanup:  # whatever happens, such as a second Ctrl-C
            process = self._process
            if process is None:
                return
            try:
                process.terminate()
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                # Kills what is left of its process group: the server itself, or stubs of the Python backend.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._process = None

    def _check(self) -> None:
        if not (self.repository / "sam3" / "config.pbtxt").is_file():
            raise ServerError(f"{self.repository}: not a model repository (sam3/config.pbtxt is missing)")
        for folder in self.repository.iterdir():
            if folder.is_dir() and not _holds_files(folder):
                raise ServerError(
                    f"{folder}: an empty folder, which Triton takes for a model; delete it "
                    "(an update that removes a model leaves Python's cache behind)"
                )
        check_artifacts(self.repository)
        if self.profile is not None:
            check_needs(self.repository, self.profile)
        for name, port in (("http", self.ports.http), ("grpc", self.ports.grpc), ("metrics", self.ports.metrics)):
            check_free(self.address, port, f"choose another one with --{name}-port")

    def _repository_with_profile(self) -> Path:
        if self.profile is None:
            return self.repository.resolve()
        folder = Path(self._cleanup.enter_context(TemporaryDirectory(prefix="sam3-repository-")))
        profiles.lay_out(self.repository, self.profile, folder)
        return folder

    def _launch(self) -> None:
        found = self._cleanup.enter_context(installation.find())
        shared_memory = f"sam3_{uuid.uuid4().hex[:8]}_"
        self._cleanup.callback(remove_shared_memory, shared_memory)
        command = [
            str(found.binary),
            f"--model-repository={self._served}",
            f"--http-address={self.address}",
            f"--grpc-address={self.address}",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            f"--exit-timeout-secs={STOP_TIMEOUT_S}",
            # Triton closes connections whose client pings more often during a call, and its default is five minutes.
            f"--grpc-http2-min-recv-ping-interval-without-data={_PING_INTERVAL_MS}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory}",
        ]
        if found.backend_directory:
            command.append(f"--backend-directory={found.backend_directory}")
        _refuse_repeated(self.flags, command)
        self._process = subprocess.Popen(
            [*command, *self.flags],
            env={**os.environ, **found.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only the launcher, which then stops the server
        )
        reader = threading.Thread(target=self._pass_log_on, args=(self._process,), daemon=True)
        reader.start()
        self._cleanup.callback(reader.join, 5)

    def _pass_log_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._log.write(line)
            self._log.flush()
            if failure := _LOAD_FAILURE.search(line) or _TABLE_FAILURE.search(line.rstrip()):
                # Triton writes a message of many lines, such as a traceback, as one line; its first part is enough.
                reason = _KIND.sub("", failure["reason"].strip('" \n').split("\\n")[0])
                reason = reason.replace(str(self._served), str(self.repository))  # the path that the user knows
                self._failures.append(f"the model {failure['model']} failed to load: {reason}")

    def _wait_until_ready(self, deadline: float) -> None:
        assert self._process is not None
        while time.monotonic() < deadline:
            code = self._process.poll()
            if code is not None:
                time.sleep(0.2)  # lets the last lines of the log arrive
                raise ServerError(self._failures[0] if self._failures else f"tritonserver ended with exit code {code}")
            try:
                with urllib.request.urlopen(f"http://{self.http_url}/v2/health/ready", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise ServerError(f"tritonserver was not ready after {READY_TIMEOUT_S:.0f} s")

    def _warm_up(self, deadline: float) -> None:
        """Sends a first click, so that no user waits for lazy initialisation; a server that fails it cannot be used."""
        with Sam3Client(self.grpc_url) as client:
            while True:
                try:
                    client.probe()
                    return
                except (DeadlineExceededError, ServerUnavailableError) as error:  # the encoder is still running
                    if fault := self.fault():
                        raise ServerError(fault) from error
                    if time.monotonic() > deadline:
                        raise ServerError(f"no answer to a click after {READY_TIMEOUT_S:.0f} s: {error}") from error
                except Sam3Error as error:
                    raise ServerError(f"the first click failed: {error}") from error


def _holds_files(folder: Path) -> bool:
    """Whether the folder holds any file except Python's caches."""
    return any(path.is_file() and path.parent.name != "__pycache__" for path in folder.rglob("*"))


def _refuse_repeated(flags: Sequence[str], command: Sequence[str]) -> None:
    own = {part.split("=")[0] for part in command} - {"--backend-config"}  # may be given many times
    for name in (flag.split("=")[0] for flag in flags):
        if name in own:
            raise ServerError(f"{name} is set by sam3-serve itself; see sam3-serve --help")


@contextmanager
def _loading(repository: Path) -> Iterator[None]:
    """Keeps sam3-export from replacing the artifacts while Triton loads them."""
    lock = repository / SWAP_LOCK
    if not lock.exists():  # a copied repository may lack it; nobody exports into that
        yield
        return
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
