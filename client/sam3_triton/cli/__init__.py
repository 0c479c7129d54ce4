"""The command `sam3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from sam3_triton.cli import batch, doctor, predict
from sam3_triton.cli.arguments import add_url
from sam3_triton.client import Sam3Client
from sam3_triton.errors import MissingExtraError, Sam3Error


class _Version(argparse.Action):
    """Looks the version up only where it is asked for: that takes as long as all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sam3 {version('sam3-triton')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sam3", description="Segment with a SAM 3 that a Triton serves.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict.add_parser(commands)
    batch.add_parser(commands)
    doctor.add_parser(commands)

    probe = commands.add_parser(
        "probe",
        help="exit with 0 if a server answers a click, else with 1",
        description="Click on a small picture and exit with 0 if a mask comes back, else with 1 and the reason: the "
        "readiness and liveness probe of containers. Triton's own readiness endpoints say yes even where the process "
        "of a model has died.",
    )
    add_url(probe, "--url")

    # The gateway's own command parses the arguments.
    commands.add_parser("gateway", help="the command sam3-gateway, where it is installed", add_help=False)
    return parser


def _probe(options: argparse.Namespace) -> None:
    with Sam3Client(options.url) as client:
        client.probe()
    print("ready")


def _gateway(arguments: list[str]) -> int:
    """The command of another distribution, found by its name: nothing of it is imported here."""
    from importlib.metadata import entry_points

    found = entry_points(group="console_scripts", name="sam3-gateway")
    if not found:
        raise MissingExtraError("sam3-gateway is not installed: pip install ./client ./gateway")
    code: int = next(iter(found)).load()(arguments)
    return code


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "predict": predict.run,
    "batch": batch.run,
    "doctor": doctor.run,
    "probe": _probe,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error; a command may have more."""
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
