"""The command `python -m benchmarks`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import aiohttp
from sam3_server import ServerError
from sam3_triton import Sam3Error
from tritonclient.utils import InferenceServerException

from benchmarks import plots, report
from benchmarks.figures import BenchmarkError
from benchmarks.full_size import compare_full_size
from benchmarks.local import Network, compare
from benchmarks.model_functions import PROJECT
from benchmarks.remote import measure_remote
from benchmarks.results import Results
from benchmarks.scenarios import LONG, SHORT

_DEMO = PROJECT / "export" / "sam3_export" / "demo" / "sam3_demo.pt"
_OUTPUT = Path("out") / "bench"
_AMOUNTS = {"short": SHORT, "long": LONG}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How close to the limit, how far ahead.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in (
        ("short", "limit, server, gateway and baselines on this machine, in minutes"),
        ("long", "the same with many more requests, up to an hour"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
        command.add_argument("--checkpoint", type=Path, default=_DEMO, help="what was exported into it (%(default)s)")
        command.add_argument("--config", type=Path, help="its sizes (default: beside the checkpoint, if there)")
        command.set_defaults(run=_local, amount=name)
    full_size = commands.add_parser(
        "full-size", help="SAM 3's own mask decoder with random weights; and the baseline with its own encoder"
    )
    full_size.add_argument("--without-encoder", action="store_true", help="leave that baseline out: 8 GB, and minutes")
    full_size.set_defaults(run=lambda options: compare_full_size(options.output, not options.without_encoder))
    remote = commands.add_parser("remote", help="a server elsewhere: no limit, no baselines, no memory")
    remote.add_argument("--url", required=True, metavar="HOST:PORT", help="its gRPC endpoint")
    remote.add_argument("--http-url", metavar="http://HOST:PORT", help="its HTTP endpoint, to be measured too")
    remote.add_argument("--gateway", metavar="URL", help="a gateway in front of it, to be measured too")
    remote.add_argument("--amount", choices=_AMOUNTS, default="short", help="default: %(default)s")
    remote.set_defaults(run=_remote)
    again = commands.add_parser("report", help="table and plots anew, of results.json in the output folder")
    again.set_defaults(run=lambda options: Results.load(options.output / "results.json"))
    for name, command in commands.choices.items():
        output = _OUTPUT / "full-size" if name == "full-size" else _OUTPUT
        command.add_argument("--output", type=Path, default=output, metavar="DIR", help="default: %(default)s")
    return parser


def _local(options: argparse.Namespace) -> Results:
    config = options.config or options.checkpoint.with_suffix(".json")
    network = Network(options.checkpoint, config if config.exists() else None)
    network.check_exported(options.repository)
    title = f"Benchmarks, {options.amount} form, {options.checkpoint.name}"
    return compare(title, options.repository, network, _AMOUNTS[options.amount])


def _remote(options: argparse.Namespace) -> Results:
    return measure_remote(options.url, options.http_url, options.gateway, _AMOUNTS[options.amount])


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        results = options.run(options)
    except (BenchmarkError, ServerError, Sam3Error, InferenceServerException, aiohttp.ClientError, OSError) as error:
        print(f"benchmarks: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    results.save(options.output / "results.json")
    page = report.markdown(results, plots.draw(results, options.output))
    (options.output / "report.md").write_text(page)
    print(page)
    print(f"Written: {options.output}/report.md, results.json and plots", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
