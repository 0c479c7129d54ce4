"""The embedding cache behind the ensemble, by Triton's statistics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from observer import Observer
from pictures import fresh_image
from sam3_triton import ImageNotCachedError, InvalidInputError, Sam3Client
from sam3_triton.transport import GrpcTransport, HttpTransport

CLICK = {"points": [[10, 10]]}


@pytest.fixture(scope="module")
def client(server):
    with Sam3Client(server.grpc_url) as client:
        yield client


def test_a_second_click_does_not_run_the_encoder(client: Sam3Client, inferences: Callable) -> None:
    image = fresh_image()
    before = inferences("sam3_image_encoder")
    first = client.predict(image, **CLICK)
    assert not first.cache_hit
    assert inferences("sam3_image_encoder") == before + 1
    second = client.predict(image, **CLICK)
    by_id = client.predict(image_id=first.image_id, **CLICK)
    assert second.cache_hit
    assert by_id.cache_hit
    assert inferences("sam3_image_encoder") == before + 1
    assert first.mask_pngs == second.mask_pngs == by_id.mask_pngs


def test_a_prefetched_image_is_a_hit(client: Sam3Client, inferences: Callable) -> None:
    image = fresh_image()
    image_id = client.set_image(image)
    before = inferences("sam3_image_encoder")
    assert client.set_image(image) == image_id
    assert client.predict(image_id=image_id, **CLICK).cache_hit
    assert inferences("sam3_image_encoder") == before


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_image_is_sent_only_if_the_server_lacks_it(server, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[set[str]] = []
    kind = {"grpc": GrpcTransport, "http": HttpTransport}[scheme]
    send = kind.infer

    def record(self, call, *others):
        sent.append({"IMAGE", "CACHED_IMAGE_ID"} & set(call.inputs))
        return send(self, call, *others)

    monkeypatch.setattr(kind, "infer", record)
    image = fresh_image()
    with Sam3Client({"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[scheme]) as client:
        client.predict(image, **CLICK)
        assert sent == [{"CACHED_IMAGE_ID"}, {"IMAGE"}]
        client.predict(image, **CLICK)
        assert sent[2:] == [{"CACHED_IMAGE_ID"}]


def test_concurrent_misses_share_one_encode(client: Sam3Client, inferences: Callable, metric: Callable) -> None:
    image = fresh_image(1600, 1200)
    encodes, coalesced, hits = inferences("sam3_image_encoder"), metric("coalesced_total"), metric("hits_total")
    together = threading.Barrier(3)

    def click() -> list[bytes]:
        together.wait()
        return list(client.predict(image, **CLICK).mask_pngs)

    with ThreadPoolExecutor(3) as pool:
        answers = [future.result() for future in [pool.submit(click) for _ in range(3)]]
    assert inferences("sam3_image_encoder") == encodes + 1
    assert answers[0] == answers[1] == answers[2]
    # The two others waited for the encode or came after it.
    assert (metric("coalesced_total") - coalesced) + (metric("hits_total") - hits) == 2


def test_the_metrics_count_what_happened(client: Sam3Client, metric: Callable) -> None:
    names = ("hits_total", "misses_total", "failures_total", "entries", "bytes", "encode_seconds_total")
    before = {name: metric(name) for name in names}
    image = fresh_image()
    client.predict(image, **CLICK)
    client.predict(image, **CLICK)
    with pytest.raises(InvalidInputError):
        client.predict(b"no image", **CLICK)
    change = {name: metric(name) - before[name] for name in names}
    assert change.pop("encode_seconds_total") > 0
    # Features of the tiny network: 32 x 96 x 96 + 64 x 48 x 48 + 256 x 24 x 24 numbers of 2 bytes.
    features = 2 * (32 * 96 * 96 + 64 * 48 * 48 + 256 * 24 * 24)
    assert change == {"hits_total": 1, "misses_total": 2, "failures_total": 1, "entries": 1, "bytes": features}


def test_an_unknown_id_is_reported(client: Sam3Client) -> None:
    with pytest.raises(ImageNotCachedError, match="no image with the id '0000.*' is cached; send IMAGE"):
        client.predict(image_id="0" * 64, **CLICK)


def test_clicks_on_different_images_share_a_decoder_batch(client: Sam3Client, server) -> None:
    observer = Observer(server)
    ids = [client.set_image(fresh_image()) for _ in range(4)]
    alone = {image_id: client.predict(image_id=image_id, **CLICK).low_res_logits for image_id in ids}
    inferred, executed = observer.counts("sam3_mask_decoder")
    with ThreadPoolExecutor(8) as pool:
        clicked = ids * 16
        answers = list(pool.map(lambda image_id: client.predict(image_id=image_id, **CLICK), clicked))
    new_inferred, new_executed = observer.counts("sam3_mask_decoder")
    assert new_inferred - inferred == 64
    assert new_executed - executed < 64
    for image_id, answer in zip(clicked, answers, strict=True):
        assert abs(answer.low_res_logits - alone[image_id]).max() < 1e-3
