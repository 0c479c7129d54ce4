"""`sam3 doctor`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam3_triton.cli.arguments import add_url

_REPOSITORY = Path("model_repository")


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
    doctor.add_argument(
        "--golden",
        action="store_true",
        help="replay the golden clicks that sam3-export has stored in the repository (default: ./model_repository): a "
        "fault where the answers are not PyTorch's within the bounds of the artifacts' precision. For the start of a "
        "server, so that an engine that is wrong on its machine takes no traffic",
    )
    add_url(doctor, "--url")


def run(options: argparse.Namespace) -> int:
    """Prints the findings and returns the exit code."""
    from sam3_triton.doctor import examine

    repository = _REPOSITORY if options.golden and options.repository is None else options.repository
    return examine(options.url, repository, options.golden)
