"""The command `sam3-serve`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import FrameType

from sam3_server.choice import FOR_CPUS, FOR_GPUS, choose
from sam3_server.cores import shares
from sam3_server.errors import ServerError
from sam3_server.fleet.fleet import Fleet, placements
from sam3_server.health import DRAINING, Health, health_endpoint
from sam3_server.launcher import TritonServer
from sam3_server.layout import REPORT
from sam3_server.ports import GRPC_PORT, HEALTH_PORT, HTTP_PORT, LOOPBACK, METRICS_PORT, Ports, check_free
from sam3_server.supervisor import supervise

# A --profile without a folder.
_OWN_CONFIGS = "default"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sam3-serve",
        usage="%(prog)s [OPTIONS] [-- --TRITON-FLAG=VALUE ...]",
        description="Serve a SAM 3 model repository with a local Triton, until Ctrl-C or SIGTERM.",
        epilog="Flags after -- are passed to tritonserver, for example: "
        "sam3-serve --profile torchscript -- --log-verbose=1",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="model repository with artifacts installed by sam3-export (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="a profile in ensemble_configs/ beside the repository, such as gpu, or default for the repository's own "
        "configs (default: chosen by this machine's hardware and the installed artifacts)",
    )
    parser.add_argument("--http-port", type=int, default=HTTP_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument("--grpc-port", type=int, default=GRPC_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--health-port",
        type=int,
        default=HEALTH_PORT,
        metavar="N",
        help="port of /health/ready and /health/live, for proxies and Kubernetes (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        default=LOOPBACK,
        metavar="IP",
        help="address to listen on (default: %(default)s, this machine only)",
    )
    parser.add_argument(
        "--drain-s",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="after SIGTERM, report for S seconds that this server drains while it still serves, so that proxies send "
        "requests elsewhere (default: %(default)g)",
    )
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        "--replicas",
        type=_positive,
        metavar="N",
        help="run N servers on this machine, each on its share of the cores, behind HAProxy (docs/fleet.md)",
    )
    several.add_argument(
        "--gpus",
        type=_names,
        metavar="ID,...",
        help="run a server on each of these GPUs, behind HAProxy; ids as in CUDA_VISIBLE_DEVICES, such as 0,1",
    )
    parser.add_argument("flags", nargs="*", metavar="--TRITON-FLAG=VALUE", help="flags for tritonserver, after --")
    return parser


def _check(flags: list[str], parser: argparse.ArgumentParser) -> None:
    for flag in flags:
        if not flag.startswith("--"):
            parser.error(f"unrecognized argument: {flag} (flags for tritonserver start with --)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, not {text!r}")
    return seconds


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected ids without repetition, such as 0,1, not {text!r}")
    return names


class _Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP when the terminal was closed. Both drain, unlike Ctrl-C."""


_signals = count(1)


def _stop(signal_number: int, frame: FrameType | None) -> None:
    if next(_signals) <= 2:  # the second one cuts running requests off; then nothing disturbs the cleaning up
        raise KeyboardInterrupt if signal_number == signal.SIGINT else _Terminated


def _handle_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
        terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

        def hang_up(signal_number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # both the shell and the kernel send one
            for terminal in terminals:  # writing there is an error from now on
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
            _stop(signal_number, frame)

        signal.signal(signal.SIGHUP, hang_up)


def _say(line: str) -> None:
    print(f"sam3-serve: {line}", file=sys.stderr, flush=True)


def _profile(options: argparse.Namespace) -> str | None:
    """The profile to serve; None: the repository's own configs."""
    if options.profile is not None:
        return None if options.profile == _OWN_CONFIGS else options.profile
    if not (options.repository / REPORT).is_file():
        return None  # the server says what is wrong with the repository
    # Replicas on one machine either have a GPU each, or divide its cores.
    candidates = FOR_GPUS if options.gpus else FOR_CPUS if options.replicas else (*FOR_GPUS, *FOR_CPUS)
    choice = choose(options.repository, candidates)
    _say(f"profile {choice.profile}: {choice.reason} (--profile chooses another one)")
    return choice.profile


def _serve_one(options: argparse.Namespace, ports: Ports) -> None:
    """Runs one server, until a KeyboardInterrupt."""
    check_free(options.address, options.health_port, "choose another one with --health-port")
    health = Health()
    with ExitStack() as stack:
        stack.enter_context(health_endpoint(options.address, options.health_port, health.ready))
        profile = _profile(options)
        server = TritonServer(options.repository, sys.stderr, profile, ports, options.address, options.flags)
        stack.enter_context(server)
        print(
            f"Serving SAM 3: gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}, "
            f"health http://{options.address}:{options.health_port}/health/ready\n"
            "Stop it with Ctrl-C.",
            flush=True,
        )
        try:
            supervise(server, _say, health=health)
        except _Terminated:
            health.report(DRAINING, "the server is about to stop")
            time.sleep(options.drain_s)
            raise


def _serve_several(options: argparse.Namespace, ports: Ports) -> None:
    """Runs several servers behind a proxy, until a KeyboardInterrupt."""
    gpus: list[str | None] = options.gpus or [None] * options.replicas
    # With GPUs, the cores have little to do, and which of them are near to a GPU is not known here.
    cores = [set()] * len(gpus) if options.gpus else shares(len(gpus))
    arguments = [f"--repository={options.repository}", f"--profile={_profile(options) or _OWN_CONFIGS}"]
    fleet = Fleet(
        placements(ports, options.health_port, gpus, cores),
        ports,
        options.health_port,
        options.address,
        arguments,
        options.flags,
        sys.stderr,
        _say,
    )
    signal.signal(signal.SIGUSR1, lambda signal_number, frame: fleet.roll())
    with fleet:
        print(
            f"Serving SAM 3 on {len(gpus)} replicas: gRPC {options.address}:{ports.grpc}, "
            f"HTTP {options.address}:{ports.http}, metrics http://{options.address}:{ports.metrics}/metrics, "
            f"health http://{options.address}:{options.health_port}/health/ready\n"
            f"Stop it with Ctrl-C. For a rolling restart: kill -USR1 {os.getpid()}",
            flush=True,
        )
        try:
            fleet.watch()
        except _Terminated:
            fleet.drain(options.drain_s)
            raise


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 after Ctrl-C or SIGTERM, 1 with one line on stderr after an error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options.flags, parser)
    _handle_signals()
    ports = Ports(options.http_port, options.grpc_port, options.metrics_port)
    try:
        if options.replicas or options.gpus:
            _serve_several(options, ports)
        else:
            _serve_one(options, ports)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        return 0
    except ServerError as error:
        _say(str(error))
        return 1
    except OSError as error:  # such as a repository that this user may not read
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
