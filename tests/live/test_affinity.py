"""Calls about an image name it in a header, by which a proxy can choose the server."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from pictures import fresh_image
from proxy import SCHEMES, run_haproxy
from sam3_triton import AsyncSam3Client, ConceptsNotServedError, ImageNotCachedError, Sam3Client
from sam3_triton.conversations import PROBE_IMAGE


def ask(url: str, image: bytes) -> None:
    image_id = hashlib.sha256(image).hexdigest()
    with Sam3Client(url) as client:
        client.model()
        client.serves_concepts()
        client.predict(image, points=[[1, 1]])
        client.predict(image_id=image_id, points=[[1, 1]])
        client.set_image(image)
        with pytest.raises(ConceptsNotServedError):
            client.find(image, text="cup")
        with pytest.raises(ImageNotCachedError):
            client.predict(image_id="none\r\nx-injected: 1", points=[[1, 1]])
        client.probe()


async def ask_async(url: str, image: bytes) -> None:
    image_id = hashlib.sha256(image).hexdigest()
    async with AsyncSam3Client(url) as client:
        await client.model()
        await client.serves_concepts()
        await client.predict(image, points=[[1, 1]])
        await client.predict(image_id=image_id, points=[[1, 1]])
        await client.set_image(image)
        with pytest.raises(ConceptsNotServedError):
            await client.find(image, text="cup")
        with pytest.raises(ImageNotCachedError):
            await client.predict(image_id="none\r\nx-injected: 1", points=[[1, 1]])
        await client.probe()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_call_about_an_image_names_it(server, tmp_path: Path, scheme: str, asynchronous: bool) -> None:
    address = {"grpc": server.grpc_url, "http": server.http_url.removeprefix("http://")}[scheme]
    image = fresh_image()
    with run_haproxy(tmp_path / "haproxy.log", {scheme: [address]}) as proxy:
        if asynchronous:
            asyncio.run(ask_async(proxy.urls[scheme], image))
        else:
            ask(proxy.urls[scheme], image)
    image_id = hashlib.sha256(image).hexdigest()
    # predict sends the id, then the image. The one by id, set_image and find send a call each, probe up to three.
    named = [line[4] for line in proxy.lines()]
    assert named[:2] == ["-", "-"]
    assert named[2:7] == [image_id] * 5
    assert named[7] == "-"
    assert set(named[8:]) == {PROBE_IMAGE.image_id}
