"""`sam3-serve --replicas` without servers: metrics, cores, errors."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from processes import serve_command
from repository import free_ports_of_fleet
from sam3_server.cores import shares
from sam3_server.fleet.metrics import join

SCRAPE = """\
# HELP nv_latency A summary
# TYPE nv_latency summary
nv_latency{model="a",quantile="0.5"} 1.5
nv_latency_sum{model="a"} 3
nv_latency_count{model="a"} 2
# HELP plain Without labels
# TYPE plain gauge
plain 7 1700000000
"""


def test_scrapes_are_joined_by_metric() -> None:
    assert join({0: SCRAPE, 1: None, 2: SCRAPE.replace(" 7 ", " 8 ")}) == (
        "# HELP sam3_replica_up Whether the replica's metrics could be read.\n"
        "# TYPE sam3_replica_up gauge\n"
        'sam3_replica_up{replica="0"} 1\n'
        'sam3_replica_up{replica="1"} 0\n'
        'sam3_replica_up{replica="2"} 1\n'
        "# HELP nv_latency A summary\n"
        "# TYPE nv_latency summary\n"
        'nv_latency{replica="0",model="a",quantile="0.5"} 1.5\n'
        'nv_latency_sum{replica="0",model="a"} 3\n'
        'nv_latency_count{replica="0",model="a"} 2\n'
        'nv_latency{replica="2",model="a",quantile="0.5"} 1.5\n'
        'nv_latency_sum{replica="2",model="a"} 3\n'
        'nv_latency_count{replica="2",model="a"} 2\n'
        "# HELP plain Without labels\n"
        "# TYPE plain gauge\n"
        'plain{replica="0"} 7 1700000000\n'
        'plain{replica="2"} 8 1700000000\n'
    )


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_replicas_divide_the_cores(count: int) -> None:
    cores = os.sched_getaffinity(0)
    found = shares(count)
    assert len(found) == count
    assert {len(one) for one in found} == {max(1, len(cores) // count)}
    assert set().union(*found) <= cores
    if count <= len(cores):
        assert sum(map(len, found)) == len(set().union(*found))


def test_a_missing_haproxy_is_told(tmp_path: Path) -> None:
    assert error(tmp_path, PATH="/nowhere").endswith("HAProxy 2.4 or newer on the PATH: apt-get install haproxy")


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_a_port_in_use_is_told_with_its_replica(tmp_path: Path) -> None:
    ports = free_ports_of_fleet(2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[1] + 20))
        other.listen()
        assert f"port {ports[1] + 20} of 127.0.0.1 is in use; replica-1 needs it" in error(tmp_path, ports)


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")
def test_what_keeps_the_first_replica_from_starting_ends_the_command(tmp_path: Path) -> None:
    line = error(tmp_path)
    assert line == f"sam3-serve: replica-0: {tmp_path}: not a model repository (sam3/config.pbtxt is missing)"


def error(repository: Path, ports: list[int] | None = None, **environment: str) -> str:
    """The last line on stderr of a `sam3-serve --replicas 2` that fails."""
    command = serve_command(repository, ports or free_ports_of_fleet(2), "--replicas", "2")
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stderr
    return result.stderr.splitlines()[-1]
