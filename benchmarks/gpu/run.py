"""Runs the stages one after another, each within its time, and writes what is known after each figure."""

from __future__ import annotations

import datetime
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import psutil

from benchmarks import PROJECT
from benchmarks.gpu import report
from benchmarks.gpu.messages import BEGIN, END, FIGURES
from benchmarks.gpu.overlay import overlay
from benchmarks.results import about_here

# The whole run, in seconds.
BUDGET_S = 480.0
# Left for the last report, once every stage has been stopped.
_RESERVE_S = 15.0
# For a worker to import PyTorch and find the device.
_START_S = 60.0
# Times as long in a dry run, on a CPU that it may have to share.
_PATIENCE = 4
# How long a worker that is stopped may take to stop its server.
_END_S = 10


@dataclass(frozen=True)
class Stage:
    """A stage: its name, the function that measures it, the most seconds it may take, and its part of the run.

    Stages of the same part that follow each other share a process, and with it the network. `serving` needs the
    packages that were brought along.
    """

    name: str
    function: str
    seconds: float
    part: str = "network"


STAGES = (
    Stage("machine", "benchmarks.gpu.stages:machine", 90),
    Stage("encoder", "benchmarks.gpu.stages:encoder", 90),
    Stage("decoder", "benchmarks.gpu.stages:decoder", 60),
    Stage("numerics", "benchmarks.gpu.numerics:numerics", 60),
    Stage("kernels", "benchmarks.gpu.stages:kernels", 60),
    Stage("export", "benchmarks.gpu.serving:exporting", 150),
    Stage("serving", "benchmarks.gpu.serving:serving", 120, part="serving"),
    Stage("concepts", "benchmarks.gpu.stages:concepts", 45),
    Stage("compiled", "benchmarks.gpu.stages:compiled", 200),
)


@dataclass
class Outcome:
    """What became of a stage. Figures of one that was stopped or failed are those that it had."""

    status: str = "not run"
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


class Run:
    """One run."""

    def __init__(self, output: Path, packages: Path | None, small: bool, stages: Sequence[Stage] = STAGES) -> None:
        """
        Args:
            output: folder of `gpu.json`, `gpu.md` and the logs.
            packages: folder of unpacked packages or wheels for the serving stage; None if they are all installed.
            small: the demonstration model on the CPU.
        """
        self.output = output
        self.packages = packages
        self.small = small
        self.stages = stages
        self.outcomes = {stage.name: Outcome() for stage in stages}
        self._started = time.monotonic()
        self._shared = ""
        self._patience = _PATIENCE if small else 1
        self._end = self._started + self._patience * BUDGET_S - _RESERVE_S
        self._about = about_here() | {"started": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"}

    def measure(self) -> None:
        """Runs the stages in their order; a stage that ends with its process is followed by the next in a new one."""
        self._say("begins" + (", small, on the CPU" if self.small else ""))
        waiting = list(self.stages)
        with TemporaryDirectory(prefix="sam3-gpu-") as shared:
            self._shared = shared
            while waiting:
                _, together = next(groupby(waiting, key=attrgetter("part")))
                waiting = waiting[self._process(list(together)) :]
        self._keep()
        self._say(f"wrote {self.output / 'gpu.md'}")

    def _process(self, stages: list[Stage]) -> int:
        """Runs stages in one process until it ends; returns how many of them it has begun, at least 1."""
        for stage in stages:
            if time.monotonic() >= self._end:
                self._settle(stage, "skipped", "no time was left")
        if time.monotonic() >= self._end:
            return len(stages)
        read, write = os.pipe()
        with self._python(stages[0]) as python, (self.output / "gpu.log").open("a") as log, os.fdopen(read) as pipe:
            command = [str(python), "-m", "benchmarks.gpu.worker", "--pipe", str(write)]
            command += ["--shared", str(self._shared)]
            process = subprocess.Popen(
                [
                    *command,
                    *(["--small"] if self.small else []),
                    *(f"{stage.name}={stage.function}" for stage in stages),
                ],
                pass_fds=[write],
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                env=self._environment(),
                start_new_session=True,
            )
            os.close(write)
            try:
                return self._follow(pipe, stages)
            finally:
                _end(process)

    def _environment(self) -> dict[str, str]:
        # Threads of OpenMP that wait for each other on a CPU that others use, too, slow a dry run down tenfold.
        small = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} if self.small else {}
        return {**os.environ, "PYTHONPATH": _search_path(), "PYTHONUNBUFFERED": "1", **small}

    def _python(self, stage: Stage) -> AbstractContextManager[Path]:
        return overlay(self.packages) if stage.part == "serving" else nullcontext(Path(sys.executable))

    def _follow(self, pipe: IO[str], stages: list[Stage]) -> int:
        """Reads a worker's messages, until its last stage has ended, or one has taken too long."""
        messages: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_pass_on, args=(pipe, messages), daemon=True).start()
        by_name = {stage.name: stage for stage in stages}
        begun, current, began = 0, stages[0], time.monotonic()
        limit = min(began + self._patience * _START_S, self._end)
        while True:
            try:
                line = messages.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                self._settle(current, "stopped", f"it took more than {limit - began:.0f} s", began)
                return max(1, begun)
            if not line:  # the process has ended
                if self.outcomes[current.name].status in ("not run", "running"):
                    self._settle(current, "failed", "its process ended; see gpu.log", began)
                return max(1, begun)
            message = json.loads(line)
            if message["event"] == BEGIN:
                begun, current, began = begun + 1, by_name[message["stage"]], time.monotonic()
                limit = self._limit(current, began)
                self.outcomes[current.name].status = "running"
                self._say(f"{current.name} ...")
            elif message["event"] == FIGURES:
                self.outcomes[current.name].figures = message["figures"]
                self._keep()
            elif message["event"] == END:
                self._settle(current, message["status"], message["reason"], began)
                if begun == len(stages):
                    with suppress(queue.Empty):
                        messages.get(timeout=_END_S)  # lets the process end by itself
                    return begun

    def _limit(self, stage: Stage, began: float) -> float:
        return min(began + self._patience * stage.seconds, self._end)

    def _settle(self, stage: Stage, status: str, reason: str, began: float | None = None) -> None:
        outcome = self.outcomes[stage.name]
        outcome.status, outcome.reason = status, reason
        outcome.seconds = 0.0 if began is None else time.monotonic() - began
        self._keep()
        self._say(f"{stage.name}: {status}" + (f" ({reason})" if reason else ""))

    def _keep(self) -> None:
        document = {
            "about": self._about,
            "small": self.small,
            "seconds": time.monotonic() - self._started,
            "targets": [asdict(target) for target in report.targets(self.figures)],
            "stages": {name: asdict(outcome) for name, outcome in self.outcomes.items()},
        }
        fresh = self.output / "gpu.json.new"
        fresh.write_text(json.dumps(document, indent=2) + "\n")
        fresh.replace(self.output / "gpu.json")
        (self.output / "gpu.md").write_text(report.markdown(document, self.figures))

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of all stages, by name."""
        return {name: outcome.figures for name, outcome in self.outcomes.items()}

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:5.0f} s] {text}", file=sys.stderr, flush=True)


def _search_path() -> str:
    """PYTHONPATH with the folders of this source tree that hold packages."""
    folders = [PROJECT, *(PROJECT / name for name in ("client", "export", "server"))]
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a worker, and whatever it has started, such as a server, if it cannot do that itself."""
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        process.kill()
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def _pass_on(pipe: IO[str], messages: queue.Queue[str]) -> None:
    with suppress(ValueError, OSError):  # closed by the reader
        for line in pipe:
            messages.put(line)
    messages.put("")
