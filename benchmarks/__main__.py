"""The command `python -m benchmarks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import PROJECT, report
from benchmarks.results import BenchmarkError, Results

if TYPE_CHECKING:
    from benchmarks.scenarios import Amount

# Each command imports what it needs: `gpu` runs on machines that lack the packages of the others.

_DEMO = PROJECT / "export" / "sam3_export" / "demo" / "sam3_demo.pt"
_OUTPUT = Path("out") / "bench"
_AMOUNTS = ("short", "long")


_GPU_NEEDS = """\
needs this source tree, and Python with PyTorch for CUDA, transformers, the packages of sam3-export (onnx, onnx-ir,
onnxscript, onnxruntime, rich), numpy, Pillow and psutil. None of the project's distributions has to be installed.

The server also needs nvidia-pytriton 0.7.0, numpy 1.26, tritonclient, grpcio, isal, httpx, OpenCV and a CuPy that
works with numpy 1.26 (13.6), and a shared libpython. --packages brings those along that the machine lacks; they come
before the machine's own, for the server only. `python -m benchmarks.gpu.bundle --help` packs them.

What a stage lacks makes that stage skipped, with the reason. gpu.json and gpu.md are written after each figure, so a
run that is stopped leaves what it has measured.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares the server with the bare networks, which no server can beat, and with plain services.",
        epilog="Each command writes its figures as JSON, and a report, to a folder. See COMMAND --help.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], None], output: Path) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run, amount=name)
        command.add_argument("--output", type=Path, default=output, metavar="DIR", help="default: %(default)s")
        return command

    for name, text in (
        ("short", "measure limit, server, gateway and baselines on this machine, in ten minutes"),
        ("long", "the same with many more requests, in up to an hour"),
    ):
        command = add(name, text, _local, _OUTPUT)
        _add_repository(command)
        text = "the checkpoint that was exported into it (default: the demonstration checkpoint)"
        command.add_argument("--checkpoint", type=Path, default=_DEMO, help=text)
        command.add_argument("--config", type=Path, help="its sizes (default: the JSON file beside the checkpoint)")
    text = "measure SAM 3's own mask decoder, with random weights, and the plain baseline with SAM 3's encoder"
    command = add("full-size", text, _full_size, _OUTPUT / "full-size")
    advice = "skip that baseline, which takes minutes and 8 GB of memory"
    command.add_argument("--without-encoder", action="store_true", help=advice)
    text = "measure a server on another machine, without limit, baselines and memory"
    command = add("remote", text, _remote, _OUTPUT)
    command.add_argument("--url", required=True, metavar="HOST:PORT", help="its gRPC endpoint")
    command.add_argument("--http-url", metavar="http://HOST:PORT", help="its HTTP endpoint, to measure that too")
    command.add_argument("--gateway", metavar="URL", help="a gateway in front of it, to measure that too")
    command.add_argument("--amount", choices=_AMOUNTS, help="default: short")
    command.set_defaults(amount="short")
    text = "compare size, time, memory and masks of every format in a repository with fp32"
    _add_repository(add("precisions", text, _precisions, _OUTPUT))
    text = "measure first clicks in bf16 and int8 against fp32, with SAM 3's own size and random weights"
    add("first-click", text, _first_click, _OUTPUT / "first-click")
    text = "measure decode and resize of new images on one core, against Pillow alone"
    add("cold", text, _cold, _OUTPUT / "cold")
    text = "measure concept prompts with SAM 3's own detector and random weights"
    add("concepts", text, _concepts, _OUTPUT / "concepts")
    text = "measure several replicas behind the proxy: hit ratio, failures, throughput, the proxy's cost"
    _add_repository(add("fleet", text, _fleet, _OUTPUT / "fleet"))
    text = "simulate fleets of up to 16 replicas, with service times that were measured"
    command = add("sizing", text, _sizing, _OUTPUT / "sizing")
    file = PROJECT / "benchmarks" / "results" / "short.json"
    advice = "results of the command short or long, whose service times are taken (default: %(default)s)"
    command.add_argument("--service-times", type=Path, default=file, metavar="JSON", help=advice)
    text = "measure everything worth knowing about this machine's GPU, in eight minutes at most and without a network"
    command = add("gpu", text, _gpu, _OUTPUT / "gpu")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = _GPU_NEEDS
    advice = "a folder of wheels, or of unpacked ones, for the server: see below"
    command.add_argument("--packages", type=Path, metavar="DIR", help=advice)
    advice = "every stage with the demonstration model on the CPU, for a test of the run itself"
    command.add_argument("--dry-run", action="store_true", help=advice)
    command = add("report", "write the report and plots of a results file again", _report, _OUTPUT)
    file = _OUTPUT / "results.json"
    command.add_argument("results", nargs="?", type=Path, default=file, metavar="JSON", help="default: %(default)s")
    return parser


def _add_repository(command: argparse.ArgumentParser) -> None:
    default = Path("model_repository")
    command.add_argument("--repository", type=Path, default=default, metavar="DIR", help="default: %(default)s")


def _local(options: argparse.Namespace) -> None:
    from benchmarks.local import Network, compare

    config = options.config or options.checkpoint.with_suffix(".json")
    network = Network(options.checkpoint, config if config.exists() else None)
    network.check_exported(options.repository)
    title = f"Benchmarks, {options.amount} form, {options.checkpoint.name}"
    _keep(compare(title, options.repository, network, _amount(options)), options.output)


def _amount(options: argparse.Namespace) -> Amount:
    from benchmarks.scenarios import LONG, SHORT

    return LONG if options.amount == "long" else SHORT


def _full_size(options: argparse.Namespace) -> None:
    from benchmarks.full_size import compare_full_size

    _keep(compare_full_size(options.output, not options.without_encoder), options.output)


def _remote(options: argparse.Namespace) -> None:
    from benchmarks.scenarios import measure_remote

    results = measure_remote(options.url, options.http_url, options.gateway, _amount(options))
    _keep(results, options.output)


def _keep(results: Results, folder: Path) -> None:
    results.save(folder / "results.json")
    _show(results, folder)


def _report(options: argparse.Namespace) -> None:
    _show(Results.load(options.results), options.output)


def _show(results: Results, folder: Path) -> None:
    from benchmarks import plots

    _write(report.markdown(results, plots.draw(results, folder)), folder / "report.md")


def _precisions(options: argparse.Namespace) -> None:
    from benchmarks import precisions  # only this command needs the demonstration model's scenes

    figures = precisions.compare_precisions(options.repository, _DEMO)
    (options.output / "precisions.json").write_text(json.dumps(figures, indent=2) + "\n")
    _write(precisions.markdown(figures), options.output / "precisions.md")


def _first_click(options: argparse.Namespace) -> None:
    from benchmarks import first_click

    figures = first_click.compare_first_clicks(options.output, first_click.ROUNDS)
    (options.output / "first-click.json").write_text(json.dumps(figures, indent=2) + "\n")
    _write(first_click.markdown(figures), options.output / "first-click.md")


def _cold(options: argparse.Namespace) -> None:
    from benchmarks import cold

    figures = cold.measure_cold()
    (options.output / "cold.json").write_text(json.dumps(figures, indent=2) + "\n")
    _write(cold.markdown(figures), options.output / "cold.md")


def _concepts(options: argparse.Namespace) -> None:
    from benchmarks import concepts

    figures = concepts.compare_concepts(options.output, concepts.ROUNDS, concepts.BLOCK)
    (options.output / "concepts.json").write_text(json.dumps(figures, indent=2) + "\n")
    _write(concepts.markdown(figures), options.output / "concepts.md")


def _fleet(options: argparse.Namespace) -> None:
    from benchmarks import fleet

    figures = fleet.measure_fleet(options.repository, fleet.Amount())
    (options.output / "fleet.json").write_text(json.dumps(figures, indent=2) + "\n")
    _write(fleet.markdown(figures), options.output / "fleet.md")


def _sizing(options: argparse.Namespace) -> None:
    from benchmarks import plots, sizing

    figures = sizing.simulate_all(sizing.measured(options.service_times), sizing.CLICKS)
    (options.output / "sizing.json").write_text(json.dumps(figures, indent=2) + "\n")
    plots.draw_sizing(figures, options.output / "sizing.png")
    _write(sizing.markdown(figures), options.output / "sizing.md")


def _gpu(options: argparse.Namespace) -> None:
    from benchmarks.gpu.run import Run

    Run(options.output, options.packages, options.dry_run).measure()
    print((options.output / "gpu.md").read_text())


def _write(page: str, path: Path) -> None:
    path.write_text(page)
    print(page)
    print(f"Wrote {path}, with figures and plots beside it", file=sys.stderr)


def _expected_errors() -> tuple[type[Exception], ...]:
    """Errors that are reported in one line."""
    try:
        import aiohttp
        from sam3_server import ServerError
        from sam3_triton import Sam3Error
        from tritonclient.utils import InferenceServerException
    except ModuleNotFoundError:  # of the command gpu, which starts the code that could raise them in other processes
        return BenchmarkError, OSError
    return BenchmarkError, OSError, ServerError, Sam3Error, InferenceServerException, aiohttp.ClientError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        options.run(options)
    except _expected_errors() as error:
        print(f"benchmarks: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
