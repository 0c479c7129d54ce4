"""The proxy's second configuration file, with the frontends and backends of a fleet on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam3_server.fleet.replica import Placement
from sam3_server.ports import LOOPBACK

POLICY = Path(__file__).with_name("policy.cfg")
# How long a stopping proxy waits for running requests.
STOP_TIMEOUT_S = 30

_FRONTENDS = """\
global
    hard-stop-after {stop_timeout_s}s
    # Without these, HAProxy reserves memory for as many connections as the limit on open files allows.
    maxconn 4000
    no strict-limits

frontend http from sam3
    bind {address}:{http}
    default_backend http

frontend grpc from sam3
    bind {address}:{grpc} proto h2
    default_backend grpc

frontend metrics from sam3
    bind unix@{metrics_socket} mode 600
    http-request use-service prometheus-exporter
"""


def fleet_config(
    address: str, http_port: int, grpc_port: int, replicas: Sequence[Placement], metrics_socket: Path
) -> str:
    """The text of the configuration.

    Args:
        address: to listen on.
        metrics_socket: path of the Unix socket on which the proxy's own metrics are served.
    """
    parts = [
        _FRONTENDS.format(
            stop_timeout_s=STOP_TIMEOUT_S,
            address=address,
            http=http_port,
            grpc=grpc_port,
            metrics_socket=metrics_socket,
        )
    ]
    for backend, options in (("http", ""), ("grpc", " proto h2 check-proto h1")):
        parts.append(f"backend {backend} from sam3\n")
        for replica in replicas:
            port = replica.ports.http if backend == "http" else replica.ports.grpc
            parts.append(
                f"    server {replica.name} {LOOPBACK}:{port} id {replica.number + 1} "
                f"check port {replica.health_port}{options}\n"
            )
    return "\n".join([parts[0], "".join(parts[1:])])
