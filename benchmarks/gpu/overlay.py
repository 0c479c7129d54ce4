"""A virtual environment over this one, with packages that were brought along, for Triton's Python backend.

Triton's Python backend (2.51) imports from the environment of the Python on the PATH, ignores PYTHONPATH, and crashes
with numpy 2. So packages that are brought along come before those of the machine.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import PROJECT

_SOURCES = ("client", "export", "server")


@contextmanager
def overlay(packages: Path | None) -> Iterator[Path]:
    """Yields the environment's interpreter.

    Args:
        packages: a folder of wheels, or of unpacked packages; None: the environment has only what is installed.
    """
    with TemporaryDirectory(prefix="sam3-python-") as folder:
        home = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        (site,) = home.glob("lib/python3*/site-packages")
        added = [str(PROJECT / name) for name in _SOURCES]
        if packages is not None:
            wheels = sorted(packages.glob("*.whl"))
            for wheel in wheels:
                unpack(wheel, site)
            added += [] if wheels else [str(packages.resolve())]
        # What is installed here comes last.
        added += [path for path in sys.path if "site-packages" in path or "dist-packages" in path]
        (site / "overlay.pth").write_text("\n".join(added) + "\n")
        yield home / "bin" / "python3"


def unpack(wheel: Path, site: Path) -> None:
    """Extracts a wheel into a folder; files keep their permissions, because `tritonserver` is a program."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, site))
            if (mode := entry.external_attr >> 16) and path.is_file():
                path.chmod(mode & 0o777)
