"""The simulated proxy chooses as HAProxy does."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from repository import free_ports

from benchmarks.routing import Consistent, Modulo, key_of

IDS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(300)]
CONFIG = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend images
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance hdr(x-sam3-image-id)
  hash-type {hash_type}
{servers}
"""
REPLICA = """
frontend replica{number}
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string {number}
"""


def chosen_by_haproxy(haproxy: str, folder: Path, hash_type: str, weight: int) -> list[int]:
    ports = free_ports(4)
    servers = "".join(
        f"  server replica{number} 127.0.0.1:{port} id {number + 1} weight {weight}\n"
        for number, port in enumerate(ports[1:])
    )
    replicas = "".join(REPLICA.format(number=number, port=port) for number, port in enumerate(ports[1:]))
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=ports[0], hash_type=hash_type, servers=servers) + replicas)
    process = subprocess.Popen([haproxy, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=60)
        deadline = time.monotonic() + 60
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        answers = []
        for image_id in IDS:
            connection.request("GET", "/", headers={"x-sam3-image-id": image_id})
            answers.append(int(connection.getresponse().read()))
        return answers
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("weight", [1, 100])
def test_consistent_hashing_is_haproxys(weight: int, tmp_path: Path) -> None:
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if haproxy is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    found = chosen_by_haproxy(haproxy, tmp_path, "consistent sdbm avalanche", weight)
    policy = Consistent(weight)
    assert found == [policy.choose(key_of(image_id), [0, 1, 2], [0, 0, 0]) for image_id in IDS]


def test_only_the_images_of_a_lost_replica_move() -> None:
    policy = Consistent(100)
    before = [policy.choose(key_of(one), [0, 1, 2, 3], [0] * 4) for one in IDS]
    after = [policy.choose(key_of(one), [0, 1, 3], [0] * 4) for one in IDS]
    assert all(old == new for old, new in zip(before, after, strict=True) if old != 2)
    assert 2 not in after
    uniform = Modulo()
    moved = [uniform.choose(key_of(one), range(4), ()) != uniform.choose(key_of(one), range(3), ()) for one in IDS]
    assert sum(moved) > len(IDS) / 2


def test_a_replica_above_the_bound_is_skipped() -> None:
    policy = Consistent(100, balance_factor=150)
    first = policy.choose(key_of(IDS[0]), [0, 1], [0, 0])
    load = [0, 0]
    load[first] = 10
    assert policy.choose(key_of(IDS[0]), [0, 1], load) == 1 - first
    load[1 - first] = 10
    assert policy.choose(key_of(IDS[0]), [0, 1], load) == first
