"""`sam3 doctor`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam3_triton.cli.arguments import add_url


def add_parser(commands: Any) -> None:
    """The arguments of the command."""
    doctor = commands.add_parser(
        "doctor",
        help="say what is wrong with client, server and repository",
        description="Check this client, the server and its models, and say what to do about each fault.",
        epilog="Exit codes: 0 no fault (there may be warnings, and checks that could not be made); 1 a fault.",
    )
    doctor.add_argument(
        "--repository", type=Path, metavar="DIR", help="a model repository whose artifacts to check, too"
    )
    add_url(doctor, "--url")


def run(options: argparse.Namespace) -> int:
    """Prints the findings and returns the exit code."""
    from sam3_triton.doctor import examine

    return examine(options.url, options.repository)
