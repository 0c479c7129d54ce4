"""The client for asyncio, against the real server."""

from __future__ import annotations

import asyncio
import socket

import golden
import numpy as np
import pytest
from pictures import fresh_image
from repository import free_ports
from sam3_triton import (
    AsyncSam3Client,
    DeadlineExceededError,
    ImageNotCachedError,
    InvalidInputError,
    Sam3Client,
    ServerUnavailableError,
)

CLICK = {"points": [[10, 10]]}


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server) -> str:
    return {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[request.param]


def test_it_answers_as_the_client_for_threads_does(url: str) -> None:
    case = golden.case("coffee/three_points_single")

    async def ask():
        async with AsyncSam3Client(url) as client:
            await client.probe()
            assert await client.is_ready()
            return await client.predict(case.photo, **case.prompt)

    mine = asyncio.run(ask())
    with Sam3Client(url) as client:
        theirs = client.predict(case.photo, **case.prompt)
    assert mine.mask_pngs == theirs.mask_pngs
    assert mine.image_id == theirs.image_id
    np.testing.assert_array_equal(mine.low_res_logits, theirs.low_res_logits)


def test_logits_can_be_left_out(url: str) -> None:
    case = golden.case("coffee/three_points_single")

    async def ask():
        async with AsyncSam3Client(url) as client:
            return await client.predict(case.photo, **case.prompt, logits=False)

    with Sam3Client(url) as client:
        full, mine = client.predict(case.photo, **case.prompt), client.predict(case.photo, **case.prompt, logits=False)
    for answer in (mine, asyncio.run(ask())):
        assert answer.mask_pngs == full.mask_pngs
        np.testing.assert_array_equal(answer.scores, full.scores)
        with pytest.raises(InvalidInputError, match=r"were not requested: use predict\(\.\.\., logits=True\)"):
            _ = answer.low_res_logits


def test_the_image_is_sent_once_and_then_its_id(url: str) -> None:
    image = fresh_image()

    async def ask():
        async with AsyncSam3Client(url) as client:
            with pytest.raises(ImageNotCachedError):
                await client.predict(image_id="0" * 64, **CLICK)
            image_id = await client.set_image(image)
            answers = [await client.predict(image, **CLICK), await client.predict(image_id=image_id, **CLICK)]
            assert all(answer.cache_hit and answer.image_id == image_id for answer in answers)
            together = await asyncio.gather(*(client.predict(image, points=[[x, 5]]) for x in range(8)))
            assert {answer.image_id for answer in together} == {image_id}

    asyncio.run(ask())


def test_errors_are_the_same_as_those_of_the_synchronous_client(url: str) -> None:
    async def ask():
        async with AsyncSam3Client(url) as client:
            with pytest.raises(InvalidInputError, match="invalid image"):
                await client.predict(b"no image", **CLICK)
            with pytest.raises(InvalidInputError, match="outside"):
                await client.predict(fresh_image(), points=[[9000, 1]])
            with pytest.raises(InvalidInputError, match="and not both"):
                await client.predict(**CLICK)
            assert (await client.predict(fresh_image(), **CLICK)).mask_pngs

    asyncio.run(ask())


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_no_server(scheme: str) -> None:
    async def ask():
        async with AsyncSam3Client(f"{scheme}://127.0.0.1:{free_ports(1)[0]}") as client:
            assert not await client.is_ready()
            with pytest.raises(ServerUnavailableError, match="no Triton at 127.0.0.1"):
                await client.predict(fresh_image(), **CLICK)

    asyncio.run(ask())


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_silent_server_ends_in_a_timeout(scheme: str) -> None:
    async def ask(port: int):
        async with AsyncSam3Client(f"{scheme}://127.0.0.1:{port}", timeout_s=0.5) as client:
            with pytest.raises((DeadlineExceededError, ServerUnavailableError)):
                await asyncio.wait_for(client.predict(fresh_image(), **CLICK), 10)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asyncio.run(ask(silent.getsockname()[1]))
