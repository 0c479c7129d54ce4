"""Processes that die under load: the errors that callers get, and the service's recovery."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from pictures import fresh_image
from processes import models_with_processes, run_gateway, serve_command
from repository import free_ports
from sam3_server.errors import ServerError
from sam3_server.model_processes import model_processes
from sam3_server.supervisor import supervise
from sam3_triton import NoServerError, Sam3Client, Sam3Error

CLICK = {"points": [[5, 5]]}
PATIENCE_S = 120  # measured: about 10 s


@dataclass
class Service:
    """A supervised server, with a gateway in front."""

    process: subprocess.Popen
    http_url: str
    grpc_url: str
    gateway_url: str
    health_url: str
    said: list[str] = field(default_factory=list)

    def triton(self) -> psutil.Process:
        """The current `tritonserver`."""
        return next(child for child in psutil.Process(self.process.pid).children() if child.name() == "tritonserver")

    def process_of(self, model: str) -> psutil.Process:
        return next(one.process for one in model_processes(self.triton().pid) if one.model == model)

    def health(self) -> bool:
        return requests.get(f"{self.gateway_url}/health", timeout=30).json()["model_loaded"]

    def wait_for_health(self, healthy: bool) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.health() != healthy:
            assert time.monotonic() < deadline, f"the gateway's readiness stayed {not healthy}"
            time.sleep(0.05)

    def own_health(self) -> tuple[int, str]:
        """What the supervisor itself reports: the HTTP status and `status`."""
        answer = requests.get(self.health_url, timeout=30)
        return answer.status_code, answer.json()["status"]

    def wait_for(self, line: str, since: int) -> str:
        """Waits for a log line that contains `line`, not counting the first `since` lines."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := self.has_said(line, since):
                return found
            time.sleep(0.05)
        raise AssertionError(f"the log has no line with {line!r}")

    def has_said(self, line: str, since: int) -> str | None:
        return next((said for said in self.said[since:] if line in said), None)


@pytest.fixture(scope="module")
def service(exported_demo: Path) -> Iterator[Service]:
    ports = free_ports(4)
    process = subprocess.Popen(
        serve_command(exported_demo, ports), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(line for line in process.stderr), daemon=True)
    reader.start()
    try:
        assert process.stdout.readline().startswith("Serving SAM 3")
        with run_gateway(f"127.0.0.1:{ports[1]}") as gateway_url:
            health_url = f"http://127.0.0.1:{ports[3]}/health/ready"
            yield Service(process, *(f"127.0.0.1:{port}" for port in ports[:2]), gateway_url, health_url, said)
    finally:
        process.terminate()
        process.wait()


class Callers:
    """Threads that click on cached and new images until the context ends."""

    def __init__(self, service: Service) -> None:
        self.clients = [Sam3Client(url, timeout_s=60) for url in (service.grpc_url, f"http://{service.http_url}")]
        self.images = [fresh_image() for _ in range(3)]
        self.references = [self.clients[0].predict(image, **CLICK).low_res_logits for image in self.images]
        self.errors: list[Sam3Error] = []
        self.differences: list[float] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._click, args=(client,)) for client in self.clients * 2]

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        for client in self.clients:
            client.close()

    def _click(self, client: Sam3Client) -> None:
        count = 0
        while not self.stopping.is_set():
            count += 1
            try:
                if count % 4 == 0:
                    client.predict(fresh_image(), **CLICK)
                else:
                    answer = client.predict(self.images[count % 3], **CLICK).low_res_logits
                    self.differences.append(float(np.abs(answer - self.references[count % 3]).max()))
            except Sam3Error as error:
                self.errors.append(error)
                time.sleep(0.05)


@pytest.mark.parametrize("model", models_with_processes())
def test_a_killed_model_is_noticed_and_the_service_comes_back(service: Service, model: str) -> None:
    service.wait_for_health(True)
    since = len(service.said)
    with Callers(service) as callers:
        victim = service.process_of(model)
        time.sleep(0.5)
        victim.kill()
        fault = service.wait_for("restarting the server", since)
        assert f"the process of the model {model} (pid {victim.pid}) has died" in fault
        service.wait_for_health(False)
        assert not service.has_said("serving again", since)
        service.wait_for("serving again", since)
        answered = len(callers.differences)
        while len(callers.differences) < answered + 5:
            assert service.process.poll() is None
            time.sleep(0.05)
    assert callers.errors
    assert {type(error) for error in callers.errors} == {NoServerError}
    assert not [error for error in callers.errors if "\n" in str(error)]
    assert max(callers.differences) < 1e-3
    service.wait_for_health(True)


def test_a_killed_triton_is_started_again(service: Service) -> None:
    service.wait_for_health(True)
    since = len(service.said)
    assert service.own_health() == (200, "ready")
    service.triton().kill()
    service.wait_for("tritonserver ended by itself with exit code -9; restarting the server", since)
    assert service.own_health() == (503, "restarting")
    service.wait_for("serving again", since)
    deadline = time.monotonic() + PATIENCE_S
    while service.own_health() != (200, "ready"):
        assert time.monotonic() < deadline
    with Sam3Client(service.grpc_url) as client:
        assert client.predict(fresh_image(), **CLICK).mask_pngs


def test_what_else_is_watched_ends_the_watch(server) -> None:
    def gone() -> None:
        raise ServerError("the gateway ended by itself")

    with pytest.raises(ServerError, match="the gateway ended by itself"):
        supervise(server, lambda line: None, gone)
