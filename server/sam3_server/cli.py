"""The command `sam3-serve`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from sam3_server.errors import ServerError
from sam3_server.launcher import TritonServer
from sam3_server.ports import GRPC_PORT, HTTP_PORT, LOOPBACK, METRICS_PORT, Ports
from sam3_server.supervisor import supervise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sam3-serve",
        usage="%(prog)s [OPTIONS] [-- --TRITON-FLAG=VALUE ...]",
        description="Serve a SAM 3 model repository with a local Triton, until Ctrl-C or SIGTERM.",
        epilog="Flags after -- are passed to tritonserver, for example: "
        "sam3-serve --profile cpu-int8 -- --log-verbose=1",
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
        help="a profile in ensemble_configs/ beside the repository, such as gpu (default: the repository's own "
        "configs, which use ONNX Runtime on the CPU)",
    )
    parser.add_argument("--http-port", type=int, default=HTTP_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument("--grpc-port", type=int, default=GRPC_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--address",
        default=LOOPBACK,
        metavar="IP",
        help="address to listen on (default: %(default)s, this machine only)",
    )
    parser.add_argument("flags", nargs="*", metavar="--TRITON-FLAG=VALUE", help="flags for tritonserver, after --")
    return parser


def _check(flags: list[str], parser: argparse.ArgumentParser) -> None:
    for flag in flags:
        if not flag.startswith("--"):
            parser.error(f"unrecognized argument: {flag} (flags for tritonserver start with --)")


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 after Ctrl-C or SIGTERM, 1 with one line on stderr after an error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options.flags, parser)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    ports = Ports(options.http_port, options.grpc_port, options.metrics_port)
    server = TritonServer(options.repository, sys.stderr, options.profile, ports, options.address, options.flags)
    try:
        with server:
            print(
                f"Serving SAM 3: gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}\n"
                "Stop it with Ctrl-C.",
                flush=True,
            )
            supervise(server, lambda line: print(f"sam3-serve: {line}", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        return 0
    except ServerError as error:
        print(f"sam3-serve: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # such as a repository that this user may not read
        print(
            f"sam3-serve: {error.filename}: {error.strerror}" if error.filename else f"sam3-serve: {error}",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
