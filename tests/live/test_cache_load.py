"""The cache with many callers, with the demonstration checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from observer import Observer
from pictures import fresh_image
from repository import copy_repository, link_artifacts
from sam3_server import TritonServer
from sam3_triton import Prediction, Sam3Client

CLICK = {"points": [[60, 40]]}


@pytest.fixture(scope="module")
def demo(serve, exported_demo: Path) -> TritonServer:
    return serve(exported_demo)


@pytest.fixture(scope="module")
def observer(demo: TritonServer) -> Observer:
    return Observer(demo)


@pytest.fixture(scope="module")
def client(demo: TritonServer) -> Iterator[Sam3Client]:
    with Sam3Client(demo.grpc_url) as client:
        yield client


def together(calls: list[Callable[[], Prediction]]) -> list[Prediction]:
    """Makes all calls at the same moment, each in its own thread."""
    start = threading.Barrier(len(calls))

    def make(call: Callable[[], Prediction]) -> Prediction:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def test_sixteen_callers_of_four_images_cost_four_encodes(demo: TritonServer, observer: Observer) -> None:
    images = [fresh_image() for _ in range(4)]
    observer.metric("hits_total")  # once it has settled, so have the others
    encodes, before = observer.inferences("sam3_image_encoder"), observer.metrics()
    clients = [Sam3Client(demo.grpc_url) for _ in range(16)]
    calls = [lambda n=n: clients[n].predict(images[n % 4], **CLICK) for n in range(16)]
    answers = together(calls)
    assert observer.inferences("sam3_image_encoder") == encodes + 4
    for n, answer in enumerate(answers):
        assert answer.image_id == answers[n % 4].image_id
        # Clicks that share a batch differ in the last bits from those that do not.
        assert np.abs(answer.low_res_logits - answers[n % 4].low_res_logits).max() < 1e-3
    hits = sum(answer.cache_hit for answer in answers)
    bytes_of_an_image = answers[0].low_res_logits.size * (12 + 24 / 4 + 96 / 16) * 2  # 12, 24 and 96 channels, fp16
    observer.metric("hits_total")  # once it has settled, so have the others
    change = {name: value - before[name] for name, value in observer.metrics().items()}
    assert change["misses_total"] == change["encodes_total"] == change["entries"] == 4
    assert change["hits_total"] == hits
    assert change["coalesced_total"] == 16 - 4 - hits
    assert change["bytes"] == 4 * bytes_of_an_image
    assert change["rejected_total"] == change["failures_total"] == change["inflight"] == 0
    for one in clients:
        one.close()


def test_images_that_miss_together_are_encoded_as_a_batch(serve, exported_demo: Path, tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    link_artifacts(exported_demo, repository)
    for model, usual, here in (  # as for GPUs
        ("sam3_image_encoder", "max_batch_size: 1", "max_batch_size: 4"),
        ("sam3_embedding_cache", 'string_value: "2"', 'string_value: "8"'),
    ):
        config = repository / model / "config.pbtxt"
        assert config.read_text().count(usual) == 1
        config.write_text(config.read_text().replace(usual, here))
    server = serve(repository)
    observer = Observer(server)
    images = [fresh_image() for _ in range(12)]
    inferred, executed = observer.counts("sam3_image_encoder")
    with Sam3Client(server.grpc_url) as client:
        answers = together([lambda image=image: client.predict(image, **CLICK) for image in images])
    new_inferred, new_executed = observer.counts("sam3_image_encoder")
    assert new_inferred - inferred == 12
    assert new_executed - executed < 12
    assert not any(answer.cache_hit for answer in answers)
    assert len({answer.low_res_logits.tobytes() for answer in answers}) == 12
