"""Runs stages in a process of its own, so that the run can stop one that hangs, and survives one that crashes."""

from __future__ import annotations

import argparse
import os
import pkgutil
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.messages import Channel, SkippedError

if TYPE_CHECKING:
    from benchmarks.gpu.context import Context


def main(arguments: list[str] | None = None) -> None:
    """Runs the stages; each is a function module:name of a context and a function that keeps its figures so far."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("stages", nargs="+", metavar="NAME=MODULE:FUNCTION")
    options = parser.parse_args(arguments)
    # A worker that is stopped still stops its server.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    with os.fdopen(options.pipe, "w") as pipe, tempfile.TemporaryDirectory(prefix="sam3-gpu-") as folder:
        channel = Channel(pipe)
        context = None
        with suppress(Exception):  # the stages below report it
            context = _context(Path(folder), options)
        for text in options.stages:
            name, _, path = text.partition("=")
            channel.begin(name)
            try:
                context = context or _context(Path(folder), options)
                pkgutil.resolve_name(path)(context, partial(channel.figures, name))
            except SkippedError as skip:
                channel.end(name, "skipped", str(skip))
            except ModuleNotFoundError as error:
                channel.end(name, "skipped", f"{error.name} is not installed")
            except Exception as error:  # one stage must not take the others with it
                traceback.print_exc(file=sys.stderr)
                line = (str(error).strip().splitlines() or [""])[0]
                channel.end(name, "failed", f"{type(error).__name__}: {line}")
            else:
                channel.end(name, "done")


def _context(folder: Path, options: argparse.Namespace) -> Context:
    from benchmarks.gpu.context import Context  # imports PyTorch, which may be missing

    return Context(folder, options.shared, options.small)


if __name__ == "__main__":
    main()
