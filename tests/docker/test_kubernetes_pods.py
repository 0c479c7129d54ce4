"""The pods of docker/kubernetes run in podman, with stand-ins for base images (tests/pods.py says what differs)."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import golden
import numpy as np
import pytest
import requests
import yaml
from containers import Podman
from manifests import BIN, KUBERNETES, Manifest, container, expressions, only, render_with_components, workloads
from pictures import fresh_image
from PIL import Image
from pods import Pods, wait_until
from repository import free_ports
from sam3_triton import ImageNotCachedError, Sam3Client, Sam3Error

pytestmark = pytest.mark.usefixtures("steady_network")

TRITONS = ("sam3-triton-0", "sam3-triton-1")
# Triton publishes these on GPUs alone.
ON_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes"}
CLICK = [[60.0, 40.0]]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return render_with_components(tmp_path_factory.mktemp("kustomization"))


@pytest.fixture(scope="module")
def pods(images: Podman, manifests: list[Manifest], exported: Path) -> Iterator[Pods]:
    """Two Tritons, a proxy and a gateway, ready by their own readiness probes."""
    with images.network() as network:
        running = Pods(images, network, manifests, exported)
        names = (*TRITONS, "sam3-proxy", "sam3-gateway")
        try:
            for name in names:
                running.start(name)
            for name in names:
                running.wait_until_ready(name)
            wait_until(lambda: servers_up(running) == set(TRITONS), "the proxy has not found both Tritons")
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Pictures that every Triton sees for the first time."""
    return [fresh_image() for _ in range(12)]


def metrics(pods: Pods, name: str, port: str = "metrics") -> str:
    return requests.get(f"http://{pods.url(name, port)}/metrics", timeout=10).text


def of_servers(pods: Pods, metric: str, **labels: str) -> dict[str, float]:
    """One of HAProxy's metrics for each server of the backend for gRPC."""
    wanted = "".join(f'.*{key}="{value}"' for key, value in labels.items())
    pattern = rf'^{metric}{{proxy="triton_grpc",server="([\w-]+)"{wanted}.*}} (\S+)$'
    return {server: float(value) for server, value in re.findall(pattern, metrics(pods, "sam3-proxy"), re.MULTILINE)}


def servers_up(pods: Pods) -> set[str]:
    """The Tritons that the proxy sends requests to, with their full share of the images."""
    weights = of_servers(pods, "haproxy_server_weight")
    up = of_servers(pods, "haproxy_server_status", state="UP")
    return {server for server, value in up.items() if value and weights[server] == 100}


def held(pods: Pods, pictures: list[bytes]) -> dict[str, set[bytes]]:
    """The pictures whose features each Triton has; each is asked directly."""
    return {name: {picture for picture in pictures if _holds(pods.url(name, "grpc"), picture)} for name in TRITONS}


def _holds(url: str, picture: bytes) -> bool:
    with Sam3Client(url) as client:
        try:
            client.predict(image_id=hashlib.sha256(picture).hexdigest(), points=CLICK)
        except ImageNotCachedError:
            return False
        return True


def check_shares(pods: Pods, pictures: list[bytes]) -> None:
    """Fails unless each picture is held by one Triton, and each Triton holds some."""
    first, second = held(pods, pictures).values()
    assert first | second == set(pictures)
    assert not first & second
    assert first
    assert second


def click(pods: Pods, picture: bytes) -> bytes:
    """The mask for a click through the gateway.

    Raises:
        requests.HTTPError: the gateway answered with an error.
    """
    url = f"http://{pods.url('sam3-gateway', 'http')}/predict/mask"
    answer = requests.post(url, files={"image": picture}, data={"points": str(CLICK)}, timeout=60)
    answer.raise_for_status()
    return answer.content


def test_golden_clicks_come_out_right(pods: Pods, manifests: list[Manifest]) -> None:
    triton = container(workloads(manifests)["sam3-triton"])
    for name in TRITONS:
        pods.run(name, triton["startupProbe"]["exec"]["command"])
    for name in (*TRITONS, "sam3-proxy", "sam3-gateway"):
        probe = container(workloads(manifests)[name.rstrip("-01")])["livenessProbe"]["httpGet"]
        assert requests.get(f"http://{pods.url(name, probe['port'])}{probe['path']}", timeout=10).status_code == 200


def test_a_click_through_the_gateway_gives_metas_mask(pods: Pods) -> None:
    case = next(one for one in golden.cases() if one.prompt["points"] is not None and one.weights == "golden")
    data = {"points": str(np.asarray(case.prompt["points"]).tolist()), "multimask": str(case.prompt["multimask"])}
    data["labels"] = str(np.asarray(case.prompt["labels"]).tolist())
    url = f"http://{pods.url('sam3-gateway', 'http')}/predict/mask"
    answer = requests.post(url, files={"image": case.photo.read_bytes()}, data=data, timeout=60)
    assert answer.status_code == 200, answer.text
    mask = np.asarray(Image.open(io.BytesIO(answer.content))) > 0
    assert (mask & case.masks[0]).sum() / (mask | case.masks[0]).sum() >= golden.MINIMUM_IOU


def test_an_image_stays_on_one_triton(pods: Pods, pictures: list[bytes]) -> None:
    for picture in pictures * 3:
        click(pods, picture)
    check_shares(pods, pictures)


def test_every_metric_that_is_asked_for_is_published(pods: Pods, manifests: list[Manifest]) -> None:
    (group,) = only(manifests, "PrometheusRule", "sam3")["spec"]["groups"]
    queries = [*expressions(manifests).values(), *(rule["expr"] for rule in group["rules"])]
    asked = set(re.findall(r"\b(?:nv|sam3|haproxy)_\w+", re.sub(r'"[^"]*"', "", " ".join(queries))))
    pages = (metrics(pods, TRITONS[0]), metrics(pods, "sam3-proxy"), metrics(pods, "sam3-gateway", "http"))
    published = set(re.findall(r"^(\w+)[{ ]", "\n".join(pages), re.MULTILINE))
    assert asked - ON_GPUS <= published
    assert published & {"sam3_embedding_cache_hits_total", "haproxy_server_status", "sam3_gateway_requests_total"}


def test_envoys_example_keeps_an_image_on_one_triton(pods: Pods, tmp_path: Path) -> None:
    text = (KUBERNETES / "examples" / "envoy.yaml").read_text()
    for name in TRITONS:
        text = text.replace(f"{name}.sam3-triton.sam3.svc.cluster.local", pods.address(name))
    (port,) = free_ports(1)
    config = yaml.safe_load(text)
    config["static_resources"]["listeners"][0]["address"]["socket_address"] = {
        "address": "127.0.0.1",
        "port_value": port,
    }
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    command = [BIN / "envoy", "-c", tmp_path / "envoy.yaml", "--disable-hot-restart", "--log-level", "error"]
    process = subprocess.Popen(command)
    try:
        pictures = [fresh_image() for _ in range(12)]
        with Sam3Client(f"127.0.0.1:{port}") as client:
            wait_until(lambda: _answers(client), "Envoy does not answer")
            for picture in pictures * 3:
                client.predict(picture, points=CLICK)
        check_shares(pods, pictures)
    finally:
        process.terminate()
        process.wait()


def _answers(client: Sam3Client) -> bool:
    try:
        client.probe()
    except Sam3Error:
        return False
    return True


def test_a_triton_is_replaced_under_clicks(pods: Pods, pictures: list[bytes]) -> None:
    masks = {picture: click(pods, picture) for picture in pictures}
    share = held(pods, pictures)["sam3-triton-1"]
    with clicking(pods, masks) as failures:
        assert pods.stop("sam3-triton-1") == 0
        wait_until(lambda: servers_up(pods) == {"sam3-triton-0"}, "the proxy still sends to the Triton that is gone")
        for picture in pictures:  # its share is served by the other one
            click(pods, picture)
        pods.start("sam3-triton-1")
        pods.wait_until_ready("sam3-triton-1")
        wait_until(lambda: servers_up(pods) == set(TRITONS), "the new Triton does not get its share")
        for picture in pictures:
            click(pods, picture)
    assert not failures
    assert held(pods, pictures)["sam3-triton-1"] == share


@contextmanager
def clicking(pods: Pods, masks: dict[bytes, bytes]) -> Iterator[list[str]]:
    """Clicks on the pictures in a thread while the block runs; yields what went wrong."""
    over, failures = threading.Event(), []

    def run() -> None:
        while not over.is_set():
            for picture, mask in masks.items():
                try:
                    if click(pods, picture) != mask:
                        failures.append("another mask")
                except requests.RequestException as error:
                    failures.append(f"{error}: {getattr(error.response, 'text', '')}")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join()
