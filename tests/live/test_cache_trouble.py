"""The cache with slow and failing encodes, a small budget, and callers that time out."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from observer import Observer
from pictures import fresh_image
from repository import copy_repository, link_artifacts
from sam3_server import TritonServer
from sam3_triton import PredictionError, Sam3Client, ServerUnavailableError

CLICK = {"points": [[5, 5]]}
SLOW, REFUSED, RAISING = 41, 43, 47  # widths of images that cause trouble
PATIENCE_S = 60
BYTES_OF_AN_IMAGE = 4 * (32 * 96 * 96 + 64 * 48 * 48 + 256 * 24 * 24)  # the golden network's features, fp32
TTL_S = 20

TROUBLE = """
import os
import time

_to_network_pixels = to_network_pixels


def to_network_pixels(image, size):
    width = image.shape[1]
    while width == {slow} and os.path.exists({gate!r}):
        time.sleep(0.02)
    if width == {raising}:
        raise RuntimeError("a fault on purpose")
    pixels = _to_network_pixels(image, size)
    return pixels[:, :-1] if width == {refused} else pixels
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, slow encodes do not finish."""
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def troubled(serve, exported: Path, gate: Path, tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    """One encode at a time, four in flight, room for three images; some image widths make an encode slow or fail."""
    repository = copy_repository(tmp_path_factory.mktemp("troubled"))
    link_artifacts(exported, repository)
    with (repository / "sam3_preprocess" / "1" / "image_preprocess.py").open("a") as module:
        module.write(TROUBLE.format(gate=str(gate), slow=SLOW, raising=RAISING, refused=REFUSED))
    config = repository / "sam3_embedding_cache" / "config.pbtxt"
    text = config.read_text()
    for name, usual, here in (
        ("cache_bytes", "1073741824", str(3 * BYTES_OF_AN_IMAGE)),
        ("max_inflight_encodes", "16", "4"),
        ("max_concurrent_encodes", "2", "1"),
        ("ttl_seconds", "0", str(TTL_S)),
    ):
        lines = [line for line in text.splitlines() if f'"{name}"' in line]
        assert len(lines) == 1
        assert f'"{usual}"' in lines[0]
        text = text.replace(lines[0], lines[0].replace(f'"{usual}"', f'"{here}"'))
    config.write_text(text)
    return serve(repository)


@pytest.fixture(scope="module")
def observer(troubled: TritonServer) -> Observer:
    return Observer(troubled)


@pytest.fixture(scope="module")
def client(troubled: TritonServer) -> Iterator[Sam3Client]:
    with Sam3Client(troubled.grpc_url) as client:
        yield client


@pytest.fixture
def raw(troubled: TritonServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(troubled.grpc_url) as client:
        yield client


@pytest.fixture
def slow_encode(client: Sam3Client, observer: Observer, gate: Path) -> Callable[[], AbstractContextManager[None]]:
    """Keeps an encode running during the context: it occupies the only slot."""

    @contextmanager
    def encode() -> Iterator[None]:
        gate.touch()
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(client.set_image, fresh_image(SLOW, 30))
            try:
                wait_until_inflight(observer, 1)
                yield
            finally:
                gate.unlink()
            slow.result()

    return encode


def wait_until_inflight(observer: Observer, count: int) -> None:
    """Waits until `count` images are being encoded or wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while observer.metrics()["inflight"] != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_hits_do_not_wait_for_a_miss(client: Sam3Client, slow_encode: Callable) -> None:
    warm = client.set_image(fresh_image())
    with slow_encode():
        for _ in range(3):
            assert client.predict(image_id=warm, **CLICK).cache_hit


def test_a_miss_beyond_the_bound_is_refused_at_once(
    client: Sam3Client, observer: Observer, slow_encode: Callable
) -> None:
    encodes = observer.inferences("sam3_preprocess")
    with ThreadPoolExecutor(3) as pool:
        with slow_encode():
            waiting = [pool.submit(client.set_image, fresh_image()) for _ in range(3)]
            wait_until_inflight(observer, 4)
            with pytest.raises(ServerUnavailableError, match="^4 images are being encoded or wait for it; try again"):
                client.set_image(fresh_image())
        for future in waiting:
            future.result()
    assert observer.inferences("sam3_preprocess") == encodes + 4


def failure_of(client: Sam3Client, image: bytes) -> BaseException:
    # Either the client's timeout or the server's comes first.
    with pytest.raises((ServerUnavailableError, TimeoutError)) as caught:
        client.set_image(image)
    return caught.value


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_an_image_that_nobody_waits_for_is_not_encoded(
    troubled: TritonServer, observer: Observer, slow_encode: Callable, scheme: str
) -> None:
    url = {"grpc": troubled.grpc_url, "http": f"http://{troubled.http_url}"}[scheme]
    preprocessed, abandoned = observer.inferences("sam3_preprocess"), observer.metric("abandoned_total")
    with Sam3Client(url, timeout_s=0.5) as hasty, ThreadPoolExecutor(3) as pool:
        with slow_encode():
            assert all(pool.map(lambda image: failure_of(hasty, image), [fresh_image() for _ in range(3)]))
            wait_until_inflight(observer, 1)  # their slots are free before the slow encode finishes
        assert observer.inferences("sam3_preprocess") == preprocessed + 1
    assert observer.metric("abandoned_total") == abandoned + 3


def test_a_cancelled_request_to_the_cache_itself_is_not_encoded(
    raw: tritonclient.grpc.InferenceServerClient, observer: Observer, slow_encode: Callable
) -> None:
    preprocessed, abandoned = observer.inferences("sam3_preprocess"), observer.metric("abandoned_total")
    image = tritonclient.grpc.InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([fresh_image()], np.object_))
    with slow_encode():
        call = raw.async_infer(
            "sam3_embedding_cache",
            [image],
            callback=lambda result, error: None,
            outputs=[tritonclient.grpc.InferRequestedOutput("IMAGE_ID")],
        )
        wait_until_inflight(observer, 2)
        call.cancel()
        wait_until_inflight(observer, 1)
    assert observer.inferences("sam3_preprocess") == preprocessed + 1
    assert observer.metric("abandoned_total") == abandoned + 1


def test_a_waiting_caller_gets_the_image_after_another_gave_up(
    troubled: TritonServer, client: Sam3Client, observer: Observer, slow_encode: Callable
) -> None:
    image = fresh_image()
    with Sam3Client(troubled.grpc_url, timeout_s=0.5) as hasty, ThreadPoolExecutor(2) as pool:
        with slow_encode():
            gone = pool.submit(failure_of, hasty, image)
            wait_until_inflight(observer, 2)
            stays = pool.submit(client.predict, image, **CLICK)
            assert gone.result()
        assert not stays.result().cache_hit
    assert client.predict(image, **CLICK).cache_hit


@pytest.mark.parametrize(("width", "message"), [(REFUSED, "PIXELS"), (RAISING, "sam3_preprocess failed")])
def test_a_failed_encode_fails_all_its_callers_and_is_not_cached(
    client: Sam3Client, observer: Observer, width: int, message: str
) -> None:
    image = fresh_image(width, 30)
    failures, entries = observer.metric("failures_total"), observer.metric("entries")

    def ask() -> str:
        with pytest.raises(PredictionError) as caught:
            client.predict(image, **CLICK)
        return str(caught.value)

    for round_number in range(2):  # failures are not cached: the second round runs the encoder again
        with ThreadPoolExecutor(3) as pool:
            messages = {future.result() for future in [pool.submit(ask) for _ in range(3)]}
        assert all(message in told and "\n" not in told for told in messages)
        assert observer.metric("failures_total") > failures + round_number
    assert observer.metric("entries") == entries
    assert client.predict(fresh_image(), **CLICK).mask_pngs


def test_clicks_on_more_images_than_fit_are_all_correct(client: Sam3Client, observer: Observer) -> None:
    images = [fresh_image() for _ in range(8)]
    references = [client.predict(image, **CLICK).low_res_logits for image in images]
    evictions = observer.metric("evictions_total")
    most = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], observer.metrics()["bytes"])

    def work(worker: int) -> list[float]:
        choose = random.Random(worker)
        differences = []
        for _ in range(25):
            index = choose.randrange(len(images))
            answer = client.predict(images[index], **CLICK).low_res_logits
            differences.append(float(np.abs(answer - references[index]).max()))
        return differences

    with ThreadPoolExecutor(5) as pool:
        watcher = pool.submit(watch)
        try:
            differences = [value for values in pool.map(work, range(4)) for value in values]
        finally:
            done.set()
        watcher.result()
    assert len(differences) == 100
    assert max(differences) < 1e-3
    assert 0 < most[0] <= 3 * BYTES_OF_AN_IMAGE
    assert observer.metric("capacity_bytes") == 3 * BYTES_OF_AN_IMAGE
    assert observer.metric("evictions_total") > evictions


def test_expired_images_are_freed_and_encoded_again(client: Sam3Client, observer: Observer) -> None:
    image = fresh_image()
    client.predict(image, **CLICK)
    assert client.predict(image, **CLICK).cache_hit
    deadline = time.monotonic() + 3 * TTL_S
    while observer.metrics()["entries"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert observer.metric("bytes") == 0
    assert observer.metric("expirations_total") >= 1
    assert not client.predict(image, **CLICK).cache_hit
