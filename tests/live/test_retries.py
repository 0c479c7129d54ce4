"""Requests whose connection breaks are sent again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import fresh_image
from proxy import SCHEMES, run_haproxy
from relay import Relay, relay
from repository import free_ports
from sam3_server import Ports, TritonServer
from sam3_triton import AsyncSam3Client, NoServerError, Prediction, Sam3Client

SMALL = fresh_image()
# The answer for these takes hundreds of kilobytes.
BOXES = [[1, 1, 20 + side, 60] for side in range(16)]
# Bytes of the request or of the answer after which the connection breaks, and whether they are the request's.
BREAKS = [(700, True), (2_000_000, True), (60, False), (20_000, False)]


def large_image() -> bytes:
    """5 MB of noise."""
    return fresh_image(1500, 1100)


@pytest.fixture(params=["direct", "proxied"])
def breaking(request: pytest.FixtureRequest, server, tmp_path: Path) -> Iterator[dict[str, tuple[str, Relay]]]:
    """By scheme, an address of the server and a relay on the way to it, behind an HAProxy or not."""
    with relay(server.grpc_url) as grpc, relay(server.http_url) as http:
        relays = dict(zip(SCHEMES, (grpc, http), strict=True))
        if request.param == "direct":
            yield {scheme: (f"{scheme}://{each.address}", each) for scheme, each in relays.items()}
        else:
            servers = {scheme: [each.address] for scheme, each in relays.items()}
            with run_haproxy(tmp_path / "haproxy.log", servers) as proxy:
                yield {scheme: (proxy.urls[scheme], each) for scheme, each in relays.items()}


def ask(url: str, image: bytes, asynchronous: bool, **options: int) -> list[Prediction]:
    async def ask_async() -> list[Prediction]:
        async with AsyncSam3Client(url, **options) as client:
            return await client.predict_objects(image, boxes=BOXES, multimask=True)

    if asynchronous:
        return asyncio.run(ask_async())
    with Sam3Client(url, **options) as client:
        return client.predict_objects(image, boxes=BOXES, multimask=True)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broken_connection_is_no_error_unless_retries_are_off(breaking, scheme: str, asynchronous: bool) -> None:
    url, link = breaking[scheme]
    ask(url, SMALL, asynchronous)  # so that the server has it, and the breaks below are in the click itself
    for after, uploads in BREAKS:
        image = large_image() if after > 1_000_000 else SMALL
        before = link.breaks
        link.break_once(after, uploads=uploads)
        answers = ask(url, image, asynchronous)
        assert len(answers) == len(BOXES)
        assert link.breaks == before + 1
    link.break_once(20_000)
    with pytest.raises(NoServerError, match="no Triton at"):
        ask(url, SMALL, asynchronous, retries=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_probe_is_not_sent_again(breaking, scheme: str) -> None:
    url, link = breaking[scheme]
    with Sam3Client(url) as client:
        client.probe()
        link.break_once(60)
        with pytest.raises(NoServerError):
            client.probe()


def click_until_it_fails(client: Sam3Client, image_id: str) -> None:
    while True:
        client.predict(image_id=image_id, points=[[1, 1]])


def test_a_server_that_stops_is_no_server(exported: Path, tmp_path: Path) -> None:
    with (tmp_path / "triton.log").open("w") as log:
        server = TritonServer(exported, log, ports=Ports(*free_ports(3)))
        server.start()
        try:
            with Sam3Client(server.grpc_url, retries=0) as client:
                image_id = client.set_image(SMALL)
                os.kill(server.pid, signal.SIGTERM)
                # It unloads its models before it closes the port, and does not say that it does not have the image.
                with pytest.raises(NoServerError, match="the server starts or stops"):
                    click_until_it_fails(client, image_id)
        finally:
            server.stop(grace_s=0)
