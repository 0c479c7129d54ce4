"""Starts a `tritonserver` over a model repository, waits until it serves, and stops it without a trace."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from sam3_triton import DeadlineExceededError, Sam3Client, Sam3Error, ServerUnavailableError

from sam3_server import installation, profiles
from sam3_server.errors import ServerError

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
# The gateway's contract owns 8001, so Triton's usual 8000 to 8002 are moved by ten.
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8010, 8011, 8012
# SAM 3 at full size takes two minutes to load and to answer its first click on two cores; a slow disk more.
READY_TIMEOUT_S = 600.0
# How long requests under way may take at a stop before the server is killed.
STOP_TIMEOUT_S = 30
# sam3-export waits on this lock before it swaps artifacts (see sam3_export.installation).
SWAP_LOCK = Path("sam3") / "exports" / ".swap.lock"
ARTIFACT_MODELS = ("sam3_image_encoder", "sam3_mask_decoder")

_LOAD_FAILURE = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)")
_TABLE_FAILURE = re.compile(r"\| (?P<model>\w+) +\| \d+ +\| UNAVAILABLE: (?P<reason>.*?) *\|?$")
_KIND = re.compile(r"^(\w[\w ]*: )?(TritonModelException: )?")


@dataclass(frozen=True)
class Ports:
    """The three ports of one server."""

    http: int = HTTP_PORT
    grpc: int = GRPC_PORT
    metrics: int = METRICS_PORT


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
            flags: of `tritonserver`, beside those that the other arguments stand for.
        """
        self.repository = repository
        self.profile = profile
        self.ports = ports
        self.address = address
        self._flags = tuple(flags)
        self._log = log
        self._failures: list[str] = []
        self._cleanup = ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._models: list[ModelProcess] = []

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
            changed = self._prepare()
            with _loading(self.repository):
                self._launch()
                self._wait_until_ready(deadline)
            self._check_profile(changed)
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

    def _prepare(self) -> list[str]:
        if not (self.repository / "sam3" / "config.pbtxt").is_file():
            raise ServerError(f"{self.repository}: no model repository (sam3/config.pbtxt is missing)")
        for model in ARTIFACT_MODELS:
            if not (self.repository / model / "1").is_dir():
                raise ServerError(
                    f"{self.repository / model}: no artifact is installed; run sam3-export --checkpoint PATH"
                )
        for name, port in (("http", self.ports.http), ("grpc", self.ports.grpc), ("metrics", self.ports.metrics)):
            check_free(self.address, port, f"choose another one with --{name}-port")
        return profiles.install(self.repository, self.profile) if self.profile else []

    def _launch(self) -> None:
        found = self._cleanup.enter_context(installation.find())
        shared_memory = f"sam3_{uuid.uuid4().hex[:8]}_"
        self._cleanup.callback(_remove_shared_memory, shared_memory)
        command = [
            str(found.binary),
            f"--model-repository={self.repository.resolve()}",
            f"--http-address={self.address}",
            f"--grpc-address={self.address}",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            f"--exit-timeout-secs={STOP_TIMEOUT_S}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory}",
            *self._flags,
        ]
        if found.backend_directory:
            command.append(f"--backend-directory={found.backend_directory}")
        if self.profile:
            command.append(f"--model-config-name={self.profile}")
        self._process = subprocess.Popen(
            command,
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

    def _check_profile(self, models: list[str]) -> None:
        """Triton falls back to config.pbtxt without a word where it does not find a profile's file."""
        for model in models:
            with urllib.request.urlopen(f"http://{self.http_url}/v2/models/{model}/config", timeout=30) as answer:
                parameters = json.load(answer).get("parameters", {})
            loaded = parameters.get("profile", {}).get("string_value")
            if loaded != self.profile:
                raise ServerError(f"{model} was loaded with the profile {loaded!r}, not {self.profile!r}")


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


def check_free(address: str, port: int, advice: str) -> None:
    """Raises a ServerError, which ends with `advice`, where something listens on a port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ServerError(f"port {port} of {address} {reason}; {advice}") from error


def _remove_shared_memory(prefix: str) -> None:
    for segment in Path("/dev/shm").glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)
