"""What one run found, and where: kept as JSON."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import BenchmarkError, Row
from benchmarks.waterfall import Segment

_PACKAGES = ("sam3-triton", "onnxruntime", "torch", "numpy", "opencv-python-headless", "tritonclient", "fastapi")


@dataclass
class Results:
    """One run.

    Attributes:
        title: what was run.
        full_size: whether it was SAM 3's own size, and not that of the demonstration network.
        about: machine and versions, by name.
        settings: how much was measured, by name.
        waterfalls: of a warm click, by system.
        notes: what could not be had, and why.
    """

    title: str
    full_size: bool = False
    about: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    waterfalls: dict[str, list[Segment]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(
        self, system: str, scenario: str, tool: str, way: str | None = None, concurrency: int | None = 1
    ) -> Row | None:
        """The row of that kind; None where it was not measured."""
        for row in self.rows:
            if (row.system, row.scenario, row.tool, row.concurrency) == (system, scenario, tool, concurrency) and (
                way is None or row.way == way
            ):
                return row
        return None

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """The counterpart of `save`.

        Raises:
            BenchmarkError: the file cannot be read, or holds something else.
        """
        try:
            values = json.loads(path.read_text())
            rows = [Row.from_json(row) for row in values.pop("rows")]
            waterfalls = {
                name: [Segment(**segment) for segment in parts] for name, parts in values.pop("waterfalls").items()
            }
            return cls(rows=rows, waterfalls=waterfalls, **values)
        except OSError as error:
            raise BenchmarkError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BenchmarkError(f"{path}: no results of these benchmarks ({error})") from error


def about_here() -> dict[str, str]:
    """This machine and what runs on it."""
    found = {
        "processor": _processor(),
        "cores": str(len(psutil.Process().cpu_affinity())),
        "load before": f"{psutil.getloadavg()[0]:.1f} processes that want a core",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
