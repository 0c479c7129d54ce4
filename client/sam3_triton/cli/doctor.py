"""`sam3 doctor`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam3_triton.cli.arguments import add_url

_REPOSITORY = Path("model_repository")


def add_parser(commands: Any) -> None:
    """Adds the command and its arguments."""
    doctor = commands.add_parser(
        "doctor",
        help="find faults in client, server and repository",
        description="Check this client, the server and its models, and suggest a fix for each fault.",
        epilog="Exit codes: 0 no fault (warnings and skipped checks are not faults); 1 at least one fault.",
    )
    doctor.add_argument(
        "--repository", type=Path, metavar="DIR", help="also check the artifacts of this model repository"
    )
    doctor.add_argument(
        "--golden",
        action="store_true",
        help="replay the golden clicks and concepts that sam3-export stored in the repository (default: "
        "./model_repository) and compare the answers with PyTorch's, within the tolerance of the precision. Run this "
        "before you route traffic to a server: an engine can be wrong on its machine",
    )
    add_url(doctor, "--url")


def run(options: argparse.Namespace) -> int:
    """Prints the findings and returns the exit code."""
    from sam3_triton.doctor import examine

    repository = _REPOSITORY if options.golden and options.repository is None else options.repository
    return examine(options.url, repository, options.golden)
