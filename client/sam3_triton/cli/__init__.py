"""The command `sam3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from sam3_triton.cli import batch, doctor, find, predict
from sam3_triton.cli.arguments import add_url
from sam3_triton.client import Sam3Client
from sam3_triton.errors import MissingExtraError, Sam3Error


class _Version(argparse.Action):
    """Looks up the version only on demand, because that takes as long as everything else at startup."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sam3 {version('sam3-triton')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sam3", description="Segment images with SAM 3 on a Triton server.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict.add_parser(commands)
    find.add_parser(commands)
    batch.add_parser(commands)
    doctor.add_parser(commands)

    probe = commands.add_parser(
        "probe",
        help="check whether the server answers a click",
        description="Send a click on a small picture. Exit with 0 if a mask comes back, else print the reason and exit "
        "with 1. Use it as a container's readiness and liveness probe: Triton's own readiness endpoints still report "
        "ready when a model's process has died.",
    )
    add_url(probe, "--url")

    # sam3-gateway parses its arguments itself.
    commands.add_parser("gateway", help="run sam3-gateway, if it is installed", add_help=False)
    return parser


def _probe(options: argparse.Namespace) -> None:
    with Sam3Client(options.url) as client:
        client.probe()
    print("ready")


def _gateway(arguments: list[str]) -> int:
    """Runs `sam3-gateway`, found by its entry point, so that this package does not import the gateway."""
    from importlib.metadata import entry_points

    found = entry_points(group="console_scripts", name="sam3-gateway")
    if not found:
        raise MissingExtraError("sam3-gateway is not installed: pip install ./client ./gateway")
    code: int = next(iter(found)).load()(arguments)
    return code


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "predict": predict.run,
    "find": find.run,
    "batch": batch.run,
    "doctor": doctor.run,
    "probe": _probe,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code: 0, 1 with one line on standard error, or one of the command's own."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    try:
        if options.command == "gateway":
            return _gateway(unknown)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return _COMMANDS[options.command](options) or 0
    except Sam3Error as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(line: str) -> int:
    print(f"sam3: {line}", file=sys.stderr)
    return 1
