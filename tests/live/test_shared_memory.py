"""Images through shared memory: the same answers, nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc
from pictures import fresh_image
from repository import free_ports
from sam3_server import Ports, TritonServer
from sam3_triton import AsyncSam3Client, InvalidInputError, Sam3Client, ServerUnavailableError

CLICK = {"points": [[10, 10]]}


def large_image() -> bytes:
    """A fresh PNG of 0.9 MB."""
    return fresh_image(640, 480)


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server) -> str:
    return {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[request.param]


@pytest.fixture
def regions(server) -> Iterator:
    """The clients' regions, in the server and in /dev/shm. Checks that none are left at the end."""
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)

    def list_them() -> tuple[set[str], set[str]]:
        known = client.get_system_shared_memory_status(as_json=True).get("regions", {})
        return set(known), {file.name for file in Path("/dev/shm").glob("sam3_client_*")}

    yield list_them
    assert list_them() == (set(), set())


def test_the_answer_is_the_same_and_one_region_serves_all_images(url: str, regions) -> None:
    with Sam3Client(url, shared_memory=True) as client:
        for image in (large_image(), large_image(), large_image()):
            answer = client.predict(image, **CLICK)
            assert not answer.cache_hit
            with Sam3Client(url) as other:
                assert other.predict(image, **CLICK).mask_pngs == answer.mask_pngs
            known, files = regions()
            assert len(known) == 1
            assert known == files


def test_small_images_do_not_use_shared_memory(url: str, regions) -> None:
    with Sam3Client(url, shared_memory=True) as client:
        assert client.predict(fresh_image(), **CLICK).mask_pngs
        assert regions() == (set(), set())


def test_each_thread_has_its_own_region(url: str, regions) -> None:
    images = [large_image() for _ in range(8)]
    with Sam3Client(url, shared_memory=True) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda image: client.predict(image, **CLICK), images))
        known, files = regions()
        assert 1 <= len(known) <= 4
        assert known == files
    with Sam3Client(url) as client:
        for image, answer in zip(images, answers, strict=True):
            again = client.predict(image, **CLICK)
            assert (again.image_id, again.cache_hit, again.mask_pngs) == (answer.image_id, True, answer.mask_pngs)


def test_asyncio(url: str, regions) -> None:
    images = [large_image() for _ in range(4)]

    async def ask():
        async with AsyncSam3Client(url, shared_memory=True) as client:
            first = await client.predict(images[0], **CLICK)
            with pytest.raises(InvalidInputError, match="invalid image"):
                await client.predict(bytes(500_000), **CLICK)
            return [first, *await asyncio.gather(*(client.predict(image, **CLICK) for image in images[1:]))]

    answers = asyncio.run(ask())
    with Sam3Client(url) as client:
        for image, answer in zip(images, answers, strict=True):
            assert client.predict(image, **CLICK).mask_pngs == answer.mask_pngs


def test_a_server_that_does_not_see_the_memory(url: str, monkeypatch: pytest.MonkeyPatch, regions) -> None:
    from sam3_triton.wire import Region

    monkeypatch.setattr(Region, "key", property(lambda region: f"/{region.name[:20]}"))
    with Sam3Client(url, shared_memory=True) as client:
        create = client._transport._inner._regions._module.create_shared_memory_region
        monkeypatch.setattr(
            client._transport._inner._regions._module,
            "create_shared_memory_region",
            lambda name, key, size: create(name, f"/{name}", size),
        )
        with pytest.raises(
            ServerUnavailableError, match="shared memory needs a Triton that shares this host's /dev/shm"
        ):
            client.predict(large_image(), **CLICK)
        assert client.predict(fresh_image(), **CLICK).mask_pngs


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_restarted_server(exported: Path, tmp_path: Path, asynchronous: bool) -> None:
    ports = Ports(*free_ports(3))

    async def ask() -> None:
        async with AsyncSam3Client(f"127.0.0.1:{ports.grpc}", shared_memory=True) as client:
            for _ in range(2):
                with (tmp_path / "log").open("w") as log, TritonServer(exported, log, ports=ports):
                    assert (await client.predict(large_image(), **CLICK)).mask_pngs

    if asynchronous:
        asyncio.run(ask())
    else:
        with Sam3Client(f"127.0.0.1:{ports.grpc}", shared_memory=True) as client:
            for _ in range(2):
                with (tmp_path / "log").open("w") as log, TritonServer(exported, log, ports=ports):
                    assert client.predict(large_image(), **CLICK).mask_pngs
    assert not list(Path("/dev/shm").glob("sam3_client_*"))
