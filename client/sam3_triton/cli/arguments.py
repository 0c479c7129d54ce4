"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from typing import Any

from sam3_triton.client import DEFAULT_URL


def add_url(parser: argparse.ArgumentParser, flag: str) -> None:
    """Adds Triton's address, as `options.url`."""
    parser.add_argument(
        flag,
        dest="url",
        default=os.environ.get("SAM3_URL", DEFAULT_URL),
        metavar="URL",
        help="Triton's address: host:port (gRPC) or http://host:port (default: %(default)s; set SAM3_URL to change it)",
    )


def numbers(count: int, form: str) -> Any:
    """An argument type: `count` numbers separated by commas. `form` describes them in errors."""

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
    """An argument type: a number above 0 and below a million."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1000000, not {text!r}")
        return value

    return parse
