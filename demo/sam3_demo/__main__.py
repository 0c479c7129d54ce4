"""The command of `make demo` and, with `--stay`, of `make serve`."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

import httpx
from sam3_server import ServerError
from sam3_triton import Sam3Error

from sam3_demo import walkthrough


def main(arguments: list[str] | None = None) -> int:
    """Runs the demonstration and returns its exit code: 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m sam3_demo",
        description="Start Triton and the gateway on this machine, click on a photo, find things by name and by "
        "example, and write out/mask.png, out/overlay.png and out/found.png. Run it in the repository root, after "
        "sam3-export.",
    )
    parser.add_argument("--stay", action="store_true", help="keep serving until Ctrl-C")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        walkthrough.run(options.stay)
    except KeyboardInterrupt:
        print("Stopped.")
    except (ServerError, Sam3Error, httpx.HTTPError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
