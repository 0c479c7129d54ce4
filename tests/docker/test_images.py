"""The images of docker/, built on stand-ins for their base images and run by Docker Compose on podman.

Podman keeps the health of containers but, without systemd, does not check it by itself: `health_checks` does.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import golden
import numpy as np
import pytest
import requests
from containers import Podman, wait_for
from PIL import Image
from repository import PROJECT, free_ports
from sam3_triton.doctor.golden import FOLDER, Golden

pytestmark = pytest.mark.usefixtures("steady_network")

COMPOSE = Path(sys.executable).with_name("docker-compose")
# Docker's own read-only containers have none of these two; podman adds them.
EXTRA_TMPFS = ("/run", "/var/tmp")


@dataclass(frozen=True)
class Deployment:
    """The services of docker/compose.yaml, which run."""

    podman: Podman
    project: str
    repository: Path
    url: str  # of the gateway, as published

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.project}-{service}-1"

    def inspect(self, service: str, template: str) -> str:
        """What podman knows of a service's container."""
        return self.podman("inspect", f"--format={template}", self.container(service))

    def run(self, service: str, *command: str) -> str:
        """Runs a command in a service's container."""
        return self.podman("exec", self.container(service), *command)

    def click(self) -> requests.Response:
        """Sends the first golden click of the export to the gateway."""
        expected = Golden.read(self.repository / FOLDER)
        prompt = expected.clicks[0].prompt
        data = {"points": str(prompt.points.tolist()), "labels": str(prompt.labels.tolist())}
        data["multimask"] = str(prompt.multimask)
        return requests.post(f"{self.url}/predict/mask", files={"image": expected.image}, data=data, timeout=60)


@pytest.fixture(scope="module")
def checkout(exported_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images are built from, with the demonstration model exported and readable for all."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("client", "docker", "ensemble_configs", "gateway", "server"):
        shutil.copytree(PROJECT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("LICENSE", ".dockerignore"):
        shutil.copy2(PROJECT / name, folder / name)
    shutil.copytree(exported_demo, folder / "model_repository", symlinks=True, ignore=ignored)
    subprocess.run(["chmod", "-R", "a+rX", folder / "model_repository", folder / "ensemble_configs"], check=True)
    return folder


@pytest.fixture(scope="module")
def deployment(images: Podman, checkout: Path) -> Iterator[Deployment]:
    """`docker compose up --wait`; it returns once both services are healthy."""
    project, (port,) = f"sam3-{uuid.uuid4().hex[:8]}", free_ports(1)
    with engine_api(images) as host:
        environment = {**images.environment, "DOCKER_HOST": host, "SAM3_PUBLISH": f"127.0.0.1:{port}"}

        def compose(*arguments: str) -> None:
            command = [COMPOSE, "-p", project, "-f", checkout / "docker" / "compose.yaml", *arguments]
            result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
            assert result.returncode == 0, result.stdout + result.stderr

        try:
            with health_checks(images, project):
                compose("up", "--no-build", "--wait", "--wait-timeout", "300")
            yield Deployment(images, project, checkout / "model_repository", f"http://127.0.0.1:{port}")
        finally:
            compose("down", "--timeout", "0")


@contextmanager
def engine_api(podman: Podman) -> Iterator[str]:
    """Podman's API for clients of Docker; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "podman.sock"
        command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
        process = subprocess.Popen(command, env=podman.environment, stderr=subprocess.DEVNULL)
        try:
            wait_for(socket.exists, "podman's API listens", 60)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def health_checks(podman: Podman, project: str) -> Iterator[None]:
    """Checks the health of a project's running containers again and again, as Docker would by itself."""
    done = threading.Event()

    def check() -> None:
        containers = ("ps", "--format={{.Names}}", f"--filter=label=com.docker.compose.project={project}")
        while not done.wait(1):
            for name in podman.try_(*containers).stdout.split():
                podman.try_("healthcheck", "run", name)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_golden(answer: requests.Response, repository: Path) -> bool:
    """Whether the mask is the one that PyTorch gave for the first golden click when the model was exported."""
    expected = Golden.read(repository / FOLDER)
    click = expected.clicks[0]
    logits = click.logits[np.argmax(click.scores)]
    mask = np.asarray(Image.open(BytesIO(answer.content))) > 0
    return golden.iou(mask, cv2.resize(logits, mask.shape[::-1]) > 0) >= golden.MINIMUM_IOU


def test_both_services_are_healthy(deployment: Deployment) -> None:
    for service in ("triton", "gateway"):
        assert deployment.inspect(service, "{{.State.Health.Status}}") == "healthy"


def test_a_click_through_the_published_port_gives_the_mask(deployment: Deployment) -> None:
    answer = deployment.click()
    assert answer.status_code == 200
    assert is_golden(answer, deployment.repository)


@pytest.mark.parametrize(("service", "user"), [("triton", "1000"), ("gateway", "10001")])
def test_the_restrictions_hold(deployment: Deployment, service: str, user: str) -> None:
    lines = deployment.run(service, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert status["Uid"].split() == status["Gid"].split() == [user] * 4
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    mounts = [line.split() for line in deployment.run(service, "cat", "/proc/mounts").splitlines()]
    read_only = {where: "ro" in options.split(",") for _, where, _, options, *_ in mounts}
    assert read_only["/"]
    assert not read_only["/tmp"]
    if service == "triton":
        assert read_only["/opt/sam3/model_repository"]
        assert deployment.run(service, "df", "--output=size", "/dev/shm").split()[1] == str(1 << 20)  # in KiB


def test_killed_inside_its_container_triton_comes_back(deployment: Deployment) -> None:
    started, before = deployment.inspect("triton", "{{.State.StartedAt}}"), deployment.click().content
    deployment.run("triton", "sh", "-c", "kill -9 $(pidof tritonserver)")
    wait_for(lambda: deployment.click().status_code == 200, "a click is answered")
    assert deployment.click().content == before
    assert deployment.inspect("triton", "{{.State.StartedAt}}") == started


def test_nothing_is_written_but_to_tmp_and_shared_memory(deployment: Deployment) -> None:
    for service, user in (("triton", "1000"), ("gateway", "10001")):
        assert deployment.run(service, "find", *EXTRA_TMPFS, "-user", user) == ""


# The last of the deployment: it ends.
@pytest.mark.parametrize("service", ["gateway", "triton"])
def test_stop_ends_it_in_time_and_in_order(deployment: Deployment, service: str) -> None:
    deployment.podman("stop", deployment.container(service))  # kills it after the grace period: 137
    assert deployment.inspect(service, "{{.State.ExitCode}}") == "0"


def test_replicas_serve_a_repository_that_is_baked_in(images: Podman, checkout: Path) -> None:
    images.build(checkout / "docker" / "triton.Dockerfile", checkout, "sam3-triton:baked", "--build-arg=VARIANT=cpu")
    flags = ("--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--shm-size=1g")
    command = ("/opt/sam3/serve.sh", "--profile=cpu", "--replicas=2")  # with the image's HAProxy in front of them
    container = images("run", "--detach", *flags, "sam3-triton:baked", *command)
    try:
        wait_for(lambda: not images.try_("healthcheck", "run", container).returncode, "the baked image is healthy")
    finally:
        images.try_("rm", "--force", "--time=0", container)
        images.try_("rmi", "sam3-triton:baked")  # the next run exports a repository of its own
