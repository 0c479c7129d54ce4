"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
import os
from typing import Any

from sam3_triton.client import DEFAULT_URL


def add_url(parser: argparse.ArgumentParser, flag: str) -> None:
    """Where Triton is, as `options.url`."""
    parser.add_argument(
        flag,
        dest="url",
        default=os.environ.get("SAM3_URL", DEFAULT_URL),
        metavar="URL",
        help="Triton: host:port (gRPC), or http://host:port (default: the environment's SAM3_URL, now %(default)s)",
    )


def numbers(count: int, form: str) -> Any:
    """An argument of so many numbers with commas between them; `form` shows it."""

    def parse(text: str) -> list[float]:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"expected {form}, not {text!r}")
        return values

    return parse


def positive(kind: type[int] | type[float]) -> Any:
    """An argument that is a number above 0."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
        return value

    return parse
