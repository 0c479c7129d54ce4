"""`sam3-serve --replicas 2`: a real HAProxy before two real Tritons. Most tests share one fleet, in this order."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc
from pictures import fresh_image
from processes import serve_command
from repository import PROJECT, free_ports, free_ports_of_fleet
from sam3_server.proxy.config import POLICY
from sam3_triton import InvalidInputError, Sam3Client, Sam3Error
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed")

CLICK = {"points": [[5, 5]]}
REPLICAS = 2
PATIENCE_S = 120


@dataclass
class Fleet:
    """A running `sam3-serve --replicas`."""

    process: subprocess.Popen[str]
    ports: list[int]
    said: list[str] = field(default_factory=list)

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def encodes(self, number: int) -> int:
        """How many images a replica has encoded since its start, besides the probe's; -1 if it does not answer."""
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self.ports[1] + 10 * (number + 1)}")
        with client, suppress(InferenceServerException):
            return client.get_inference_statistics("sam3_encode").model_stats[0].inference_count - 1
        return -1

    def wait_for_encodes(self, count: int) -> None:
        """Triton counts a request a moment after it has answered it."""
        self.wait_for(f"{count} encodes", lambda: sum(map(self.encodes, range(REPLICAS))) == count)

    def supervisor(self, number: int) -> psutil.Process:
        """The `sam3-serve` of one replica."""
        port = f"--http-port={self.ports[0] + 10 * (number + 1)}"
        return next(one for one in psutil.Process(self.process.pid).children() if port in one.cmdline())

    def triton(self, number: int) -> psutil.Process:
        return next(one for one in self.supervisor(number).children() if one.name() == "tritonserver")

    def read(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def up(self, number: int) -> bool:
        """Whether the proxy sends requests to a replica."""
        pattern = rf'haproxy_server_status{{proxy="\w+",server="replica-{number}",state="UP"}} (\d)'
        states = re.findall(pattern, self.read(self.ports[2], "/metrics/proxy"))
        assert len(states) == 2  # gRPC and HTTP
        return set(states) == {"1"}

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, "".join(self.said)[-3000:]
            assert time.monotonic() < deadline, f"waited in vain: {what}"
            time.sleep(0.05)

    def wait_for_line(self, line: str, since: int) -> None:
        self.wait_for(line, lambda: any(line in said for said in self.said[since:]))


def start(repository: Path, *arguments: str) -> Fleet:
    """Starts a fleet of two; `arguments` include `--replicas` or `--gpus`."""
    ports = free_ports_of_fleet(REPLICAS)
    process = subprocess.Popen(
        serve_command(repository, ports, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    fleet = Fleet(process, ports)
    stderr = process.stderr
    assert stderr is not None
    threading.Thread(target=lambda: fleet.said.extend(stderr), daemon=True).start()
    return fleet


@pytest.fixture(scope="module")
def fleet(exported_demo: Path) -> Iterator[Fleet]:
    fleet = start(exported_demo, "--replicas", str(REPLICAS))
    try:
        assert fleet.process.stdout is not None
        assert fleet.process.stdout.readline().startswith("Serving SAM 3 on 2 replicas"), "".join(fleet.said)[-3000:]
        yield fleet
    finally:
        fleet.process.terminate()
        fleet.process.wait()


class Callers:
    """Threads that click on some images over gRPC and HTTP, with the client's own retries, until the context ends."""

    def __init__(self, fleet: Fleet, images: list[bytes]) -> None:
        self.images = images
        self.clients = [Sam3Client(url, timeout_s=60) for url in (fleet.grpc_url, fleet.http_url)]
        self.references = [self.clients[0].predict(image, **CLICK).low_res_logits for image in images]
        self.errors: list[Sam3Error] = []
        self.differences: list[float] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._click, args=(client,)) for client in self.clients]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for client in self.clients:
            client.close()
        assert self.errors == []
        assert max(self.differences) < 1e-3

    def _click(self, client: Sam3Client) -> None:
        while not self._stopping.is_set():
            for image, reference in zip(self.images, self.references, strict=True):
                try:
                    answer = client.predict(image, **CLICK).low_res_logits
                    self.differences.append(float(np.abs(answer - reference).max()))
                except Sam3Error as error:
                    self.errors.append(error)
                time.sleep(0.02)


def images_of(fleet: Fleet, number: int, count: int) -> list[bytes]:
    """New images that the proxy sends to one replica."""
    found = []
    with Sam3Client(fleet.grpc_url) as client:
        while len(found) < count:
            image, before = fresh_image(), [fleet.encodes(one) for one in range(REPLICAS)]
            client.set_image(image)
            fleet.wait_for_encodes(sum(before) + 1)
            if fleet.encodes(number) > before[number]:
                found.append(image)
    return found


def test_each_image_goes_to_one_replica(fleet: Fleet) -> None:
    images = [fresh_image() for _ in range(20)]
    before = [fleet.encodes(number) for number in range(REPLICAS)]
    with Sam3Client(fleet.grpc_url) as by_grpc, Sam3Client(fleet.http_url) as by_http:
        for number, image in enumerate(images):
            (by_grpc, by_http)[number % 2].set_image(image)
        for image in images:
            assert by_grpc.predict(image, **CLICK).cache_hit
            assert by_http.predict(image, **CLICK).cache_hit
    fleet.wait_for_encodes(sum(before) + len(images))
    assert min(fleet.encodes(number) - before[number] for number in range(REPLICAS)) > 0


def test_bad_requests_do_not_eject_a_replica(fleet: Fleet) -> None:
    for url in (fleet.grpc_url, fleet.http_url):
        with Sam3Client(url) as client:
            for _ in range(15):
                with pytest.raises(InvalidInputError):
                    client.set_image(b"\x89PNG of nobody")
    # As many as to be noticed by the proxy: each server's changes from up to down.
    downs = re.findall(r"haproxy_server_check_up_down_total\{.*\} (\d+)", fleet.read(fleet.ports[2], "/metrics/proxy"))
    assert downs == ["0"] * 2 * REPLICAS


def test_one_scrape_has_the_metrics_of_all_replicas(fleet: Fleet) -> None:
    lines = fleet.read(fleet.ports[2], "/metrics").splitlines()
    for name in ("nv_inference_count", "sam3_embedding_cache_misses_total", "sam3_replica_up"):
        for number in range(REPLICAS):
            assert any(re.match(rf'{name}{{replica="{number}"[,}}]', line) for line in lines), name
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    # All samples of a metric come after its TYPE, before the next one's.
    metric = ""
    for line in lines:
        if line.startswith("#"):
            metric = line.split()[2]
        else:
            assert line.startswith(metric)


def test_the_front_is_ready(fleet: Fleet) -> None:
    assert '{"status": "ready", "replicas"' in fleet.read(fleet.ports[3], "/health/ready")
    assert fleet.read(fleet.ports[3], "/health/live") == '{"status": "live"}'


def test_tls_at_a_proxy_before_several_machines(fleet: Fleet, tmp_path: Path) -> None:
    """The example of docs/fleet.md: docker/haproxy.cfg and a self-signed certificate. The second machine is down."""
    (certify,) = re.findall(r"^openssl req.*?sam3\.pem$", (PROJECT / "docs/fleet.md").read_text(), re.DOTALL | re.M)
    subprocess.run(["bash", "-euc", certify], cwd=tmp_path, check=True, capture_output=True)
    port, metrics_port, nobody = free_ports(3)
    config = (PROJECT / "docker" / "haproxy.cfg").read_text()
    for place, real in {
        ":8443": f"127.0.0.1:{port}",
        "127.0.0.1:8405": f"127.0.0.1:{metrics_port}",
        "/etc/haproxy/sam3.pem": f"{tmp_path}/sam3.pem",
        "10.0.0.1:8010": f"127.0.0.1:{fleet.ports[0]}",
        "10.0.0.1:8011": f"127.0.0.1:{fleet.ports[1]}",
        "10.0.0.2:8010": f"127.0.0.1:{nobody}",
        "10.0.0.2:8011": f"127.0.0.1:{nobody}",
        "port 8013": f"port {fleet.ports[3]}",
    }.items():
        assert place in config
        config = config.replace(place, real)
    (tmp_path / "haproxy.cfg").write_text(config)
    environment = {**os.environ, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "sam3.pem", "SSL_CERT_FILE": "sam3.pem"}
    proxy = subprocess.Popen(["haproxy", "-f", str(POLICY), "-f", "haproxy.cfg"], cwd=tmp_path)
    try:
        fleet.wait_for("the proxy's port", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        for scheme in ("grpcs", "https"):
            probe = [sys.executable, "-m", "sam3_triton.cli", "probe", "--url", f"{scheme}://localhost:{port}"]
            subprocess.run(probe, cwd=tmp_path, env=environment, check=True)
            assert subprocess.run(probe, cwd=tmp_path, capture_output=True).returncode != 0  # does not know the issuer
    finally:
        proxy.terminate()
        proxy.wait()


def test_a_killed_triton_costs_no_request_and_its_images_one_encode_each(fleet: Fleet) -> None:
    victims, others = images_of(fleet, 0, 4), images_of(fleet, 1, 4)
    with Callers(fleet, victims + others):
        before = fleet.encodes(1)
        fleet.triton(0).kill()
        fleet.wait_for("the other replica encodes the images", lambda: fleet.encodes(1) == before + len(victims))
        fleet.wait_for("the replica is back", lambda: fleet.up(0))
        fleet.wait_for("the first of its images returns", lambda: fleet.encodes(0) > 0)
        assert fleet.encodes(1) == before + len(victims)


def test_a_dead_model_process_is_noticed(fleet: Fleet) -> None:
    images, since = images_of(fleet, 1, 3), len(fleet.said)
    with Callers(fleet, images):
        cache = [one for one in fleet.triton(1).children() if "sam3_embedding_cache" in " ".join(one.cmdline())]
        cache[0].kill()
        fleet.wait_for_line("the process of the model sam3_embedding_cache", since)
        fleet.wait_for("the proxy marks the replica down", lambda: not fleet.up(1))
        with Sam3Client(fleet.grpc_url) as client:
            for image in images:
                assert client.predict(image, **CLICK).mask_pngs
        assert '{"status": "ready", "replicas"' in fleet.read(fleet.ports[3], "/health/ready")


def test_a_rolling_restart_costs_no_request(fleet: Fleet) -> None:
    """It begins while replica 1 is still down, and waits for it."""
    since, supervisors = len(fleet.said), [fleet.supervisor(number).pid for number in range(REPLICAS)]
    with Callers(fleet, [fresh_image() for _ in range(6)]):
        fleet.process.send_signal(signal.SIGUSR1)
        fleet.wait_for_line("rolling restart: done", since)
    assert all(fleet.supervisor(number).pid != supervisors[number] for number in range(REPLICAS))


def test_ctrl_c_leaves_nothing_even_of_a_killed_supervisor(fleet: Fleet) -> None:
    owned = psutil.Process(fleet.process.pid).children(recursive=True)
    prefixes = [name for one in owned for name in re.findall(r"prefix-name=(\w+)", " ".join(one.cmdline()))]
    assert len(prefixes) == REPLICAS
    assert segments(prefixes)
    fleet.supervisor(0).kill()
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(60) == 0
    assert_nothing_is_left(fleet, owned)
    assert segments(prefixes) == []


def test_two_signals_during_the_start_leave_nothing(exported_demo: Path) -> None:
    fleet = start(exported_demo, "--profile", "cpu", "--gpus", "5,7", "--drain-s", "60")
    fleet.wait_for_line("starting replica-0 on GPU 5", 0)
    fleet.wait_for_line("[replica-0] ", 0)
    assert fleet.triton(0).environ()["CUDA_VISIBLE_DEVICES"] == "5"
    owned = psutil.Process(fleet.process.pid).children(recursive=True)
    fleet.process.terminate()
    fleet.process.terminate()
    assert fleet.process.wait(60) == 0
    assert_nothing_is_left(fleet, owned)


def test_a_replica_that_does_not_start_is_not_waited_for(exported_demo: Path) -> None:
    """Another program takes a port of replica 1 while replica 0 starts."""
    fleet = start(exported_demo, "--replicas", str(REPLICAS))
    fleet.wait_for_line("starting replica-0", 0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", fleet.ports[2] + 20))
        assert fleet.process.stdout is not None
        assert fleet.process.stdout.readline().startswith("Serving SAM 3 on 2 replicas"), "".join(fleet.said)[-3000:]
        assert (fleet.up(0), fleet.up(1)) == (True, False)
    fleet.wait_for("replica 1", lambda: fleet.up(1))
    fleet.process.terminate()
    assert fleet.process.wait(60) == 0


def segments(prefixes: list[str]) -> list[Path]:
    """Shared memory whose name has one of the prefixes."""
    return [path for prefix in prefixes for path in Path("/dev/shm").glob(f"{prefix}*")]


def assert_nothing_is_left(fleet: Fleet, owned: list[psutil.Process]) -> None:
    """Checks processes, ports and temporary folders of a fleet that has ended."""
    # Only init can reap the processes of a supervisor that was killed.
    assert [one for one in owned if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    for port in fleet.ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    replica = f"http-port={fleet.ports[0] + 10}"
    assert not [one for one in psutil.process_iter(["cmdline"]) if replica in " ".join(one.info["cmdline"] or [])]
    configs = Path(tempfile.gettempdir()).glob("sam3-fleet-*/fleet.cfg")
    assert not [config for config in configs if f":{fleet.ports[0]}\n" in config.read_text()]
