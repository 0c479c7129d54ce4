"""Starts a `tritonserver` over a model repository, waits until it serves, and stops it without a trace."""

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
from sam3_server.errors import ServerError
from sam3_server.layout import SWAP_LOCK, check_artifacts
from sam3_server.model_processes import ModelProcess, model_processes, remove_shared_memory
from sam3_server.ports import LOOPBACK, Ports, check_free

# SAM 3 at full size takes two minutes to load and to answer its first click on two cores; a slow disk more.
READY_TIMEOUT_S = 600.0
# How long requests under way may take at a stop before the server is killed.
STOP_TIMEOUT_S = 30

_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_TABLE_FAILURE = re.compile(r"\| (?P<model>\w+) +\| \d+ +\| UNAVAILABLE: (?P<reason>.*?) *\|?$")
_KIND = re.compile(r"^(\w[\w ]*: )?(TritonModelException: )?")


class TritonServer:
    """A running Triton, as a context manager; `log` receives what it prints."""

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
            profile: one of those in `ensemble_configs/` beside the repository; None: the repository's own configs.
            flags: further ones for `tritonserver`.
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
            ServerError: a port in use, an artifact missing, a model that fails to load, ...
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
        """What is wrong with a server that was started, by the look of its processes; None: nothing.

        Triton does not start the process of a Python model again, nor does it call itself unready.
        """
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            return f"tritonserver ended by itself with exit code {code}"
        for one in self._models:
            if not one.runs():
                return f"the process of the model {one.model} (pid {one.process.pid}) has died"
        return None

    def stop(self, grace_s: float = STOP_TIMEOUT_S + 5) -> None:
        """Stops the server and everything that it started; harmless where it does not run.

        Args:
            grace_s: how long requests under way may take before they are cut off.
        """
        with self._cleanup:  # whatever happens, a second Ctrl-C say
            process = self._process
            if process is None:
                return
            try:
                process.terminate()
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                # Whatever of its process group is left: the server itself, or stubs of the Python backend.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._process = None

    def _check(self) -> None:
        if not (self.repository / "sam3" / "config.pbtxt").is_file():
            raise ServerError(f"{self.repository}: no model repository (sam3/config.pbtxt is missing)")
        for folder in self.repository.iterdir():
            if folder.is_dir() and not _holds_files(folder):
                raise ServerError(
                    f"{folder}: an empty folder, which Triton takes for a model; delete it "
                    "(an update that removes a model leaves what Python has cached there)"
                )
        check_artifacts(self.repository)
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
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which stops the server in order
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
                # Triton writes a message of many lines, a traceback say, as one line; the first part says it.
                reason = _KIND.sub("", failure["reason"].strip('" \n').split("\\n")[0])
                reason = reason.replace(str(self._served), str(self.repository))  # where a user finds it
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
        raise ServerError(f"not ready after {READY_TIMEOUT_S:.0f} s")

    def _warm_up(self, deadline: float) -> None:
        """A first click, so that no user pays for what is set up lazily; a server that fails it is of no use."""
        with Sam3Client(self.grpc_url) as client:
            while True:
                try:
                    client.probe()
                    return
                except (DeadlineExceededError, ServerUnavailableError) as error:  # the encoder is still at it
                    if fault := self.fault():
                        raise ServerError(fault) from error
                    if time.monotonic() > deadline:
                        raise ServerError(f"no first click after {READY_TIMEOUT_S:.0f} s: {error}") from error
                except Sam3Error as error:
                    raise ServerError(f"the first click failed: {error}") from error


def _holds_files(folder: Path) -> bool:
    """Whether there is anything in it but Python's caches."""
    return any(path.is_file() and path.parent.name != "__pycache__" for path in folder.rglob("*"))


def _refuse_repeated(flags: Sequence[str], command: Sequence[str]) -> None:
    own = {part.split("=")[0] for part in command} - {"--backend-config"}  # which may be given many times
    for name in (flag.split("=")[0] for flag in flags):
        if name in own:
            raise ServerError(f"{name} is set by sam3-serve itself; see sam3-serve --help")


@contextmanager
def _loading(repository: Path) -> Iterator[None]:
    """Keeps sam3-export from swapping the artifacts while they are being loaded."""
    lock = repository / SWAP_LOCK
    if not lock.exists():  # a repository that was copied without it has no exporter to wait for
        yield
        return
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
