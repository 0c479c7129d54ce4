"""What concepts share: an image's encode with clicks, a text's with other callers, and batches of the detector."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import golden
import numpy as np
import pytest
import tritonclient.grpc
from observer import Observer
from pictures import fresh_image
from repository import free_ports, infer
from sam3_server import Ports, TritonServer
from sam3_server.model_processes import model_processes
from sam3_triton import Sam3Client
from tritonclient.utils import InferenceServerException

ALL = np.array([0], np.float32)
CALLERS = 16


@pytest.fixture(scope="module")
def server(serve, exported_concepts):
    return serve(exported_concepts)


@pytest.fixture(scope="module")
def observer(server) -> Observer:
    return Observer(server)


def find(server, image: bytes, text: str, outputs: tuple[str, ...] = ("SCORES", "CACHE_HIT")) -> dict[str, Any]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        inputs = {"IMAGE": image, "TEXT": text.encode(), "THRESHOLD": ALL}
        return infer(client, tritonclient.grpc, inputs, outputs, "sam3_concept")


def new_text() -> str:
    return f"text {uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("order", ["click, find", "find, click"])
def test_clicks_and_concepts_share_one_encode(server, observer: Observer, order: str) -> None:
    image = fresh_image()
    before = observer.inferences("sam3_image_encoder")
    hits = []
    with Sam3Client(server.grpc_url) as client:
        for step in order.split(", "):
            if step == "click":
                hits.append(client.predict(image, points=[[60, 40]]).cache_hit)
            else:
                hits.append(bool(find(server, image, "cat")["CACHE_HIT"][0]))
    assert observer.inferences("sam3_image_encoder") == before + 1
    assert hits == [False, True]


def test_a_click_fetches_no_backbone_features(server, observer: Observer) -> None:
    # The encode for both is another ensemble than that of repositories without concepts.
    image = fresh_image()
    before = observer.inferences("sam3_encode"), observer.inferences("sam3_encode_concepts")
    with Sam3Client(server.grpc_url) as client:
        client.predict(image, points=[[60, 40]])
    assert (observer.inferences("sam3_encode"), observer.inferences("sam3_encode_concepts")) == (
        before[0],
        before[1] + 1,
    )


def test_callers_share_encodes_of_images_and_of_texts(server, observer: Observer) -> None:
    images, texts = [fresh_image() for _ in range(4)], [new_text() for _ in range(4)]
    models = ("sam3_image_encoder", "sam3_text_encoder", "sam3_concept_detector")
    before = [observer.inferences(model) for model in models]
    start = threading.Barrier(CALLERS)

    def call(number: int) -> np.ndarray:
        start.wait()
        return find(server, images[number % 4], texts[number // 4])["SCORES"]

    with ThreadPoolExecutor(CALLERS) as pool:
        scores = list(pool.map(call, range(CALLERS)))
    assert [observer.inferences(model) - count for model, count in zip(models, before, strict=True)] == [4, 4, CALLERS]
    for number in range(CALLERS):
        alone = find(server, images[number % 4], texts[number // 4])["SCORES"]
        np.testing.assert_allclose(scores[number], alone, atol=1e-5)


def test_texts_that_differ_in_nothing_that_counts_share_features(server, observer: Observer) -> None:
    image, text = fresh_image(), new_text()
    find(server, image, text)
    before = observer.inferences("sam3_text_encoder")
    scores = [find(server, image, other)["SCORES"] for other in (text, text.upper(), f"  {text}\n", text)]
    assert observer.inferences("sam3_text_encoder") == before
    for other in scores:
        np.testing.assert_array_equal(other, scores[0])


def test_requests_share_batches_of_the_detector(server, observer: Observer) -> None:
    images = [fresh_image() for _ in range(2)]
    texts = ["cat", "a red coffee cup", "rocket"]
    jobs = [(image, text) for image in images for text in texts] * 4
    alone = {job: find(server, *job)["SCORES"] for job in set(jobs)}
    inferred, executed = observer.counts("sam3_concept_detector")
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda job: find(server, *job)["SCORES"], jobs))
    new_inferred, new_executed = observer.counts("sam3_concept_detector")
    assert new_inferred - inferred == len(jobs)
    assert new_executed - executed < len(jobs)
    for job, found in zip(jobs, scores, strict=True):
        np.testing.assert_allclose(found, alone[job], atol=1e-5)


def test_no_cached_answer_is_of_another_prompt(server) -> None:
    photo = (golden.FOLDER / "coffee.png").read_bytes()
    first, second, again = (find(server, photo, text)["SCORES"] for text in ("cat", "dog", "cat"))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-4


def test_a_dead_text_cache_is_noticed_and_refuses_concepts_alone(exported_concepts, tmp_path) -> None:
    with (tmp_path / "triton.log").open("w") as log:
        server = TritonServer(exported_concepts, log, ports=Ports(*free_ports(3)))
        server.start()
        try:
            (stub,) = [one.process for one in model_processes(server.pid) if one.model == "sam3_text_cache"]
            stub.kill()
            image = fresh_image()
            with pytest.raises(InferenceServerException, match="sam3_text_cache_0_0' is not healthy"):
                find(server, image, "cat")
            assert (server.fault() or "").startswith("the process of the model sam3_text_cache")
            with Sam3Client(server.grpc_url) as client:
                assert client.predict(image, points=[[60, 40]]).masks.shape == (1, 80, 120)
        finally:
            server.stop(grace_s=0)
