"""Superseded clicks, seen from the server's side of the wire."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from pictures import fresh_image
from sam3_triton import AsyncSam3Client, SupersededError
from tritonclient.grpc import service_pb2_grpc


class Silent(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A Triton that never answers, and remembers what became of the calls."""

    def __init__(self) -> None:
        self.came = 0
        self.cancelled = 0

    async def ModelInfer(self, request, context):  # noqa: N802  the protocol's name
        self.came += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def until(self, came: int, cancelled: int) -> None:
        while (self.came, self.cancelled) != (came, cancelled):
            await asyncio.sleep(0.01)


def run(scenario) -> None:
    async def start() -> None:
        triton = Silent()
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with AsyncSam3Client(f"127.0.0.1:{port}") as client:
                await asyncio.wait_for(scenario(triton, client), 30)
        finally:
            await server.stop(None)

    asyncio.run(start())


def test_a_later_click_cancels_the_call_of_the_earlier_one() -> None:
    async def scenario(triton: Silent, client: AsyncSam3Client) -> None:
        clicks = client.latest_wins()
        image = fresh_image()
        first = asyncio.create_task(clicks.predict(image, points=[[1, 1]]))
        await triton.until(came=1, cancelled=0)
        second = asyncio.create_task(clicks.predict(image, points=[[2, 2]]))
        with pytest.raises(SupersededError):
            await first
        await triton.until(came=2, cancelled=1)
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await triton.until(came=2, cancelled=2)

    run(scenario)


def test_clicks_of_two_people_do_not_disturb_each_other() -> None:
    async def scenario(triton: Silent, client: AsyncSam3Client) -> None:
        tasks = [
            asyncio.create_task(client.latest_wins().predict(fresh_image(), points=[[1, 1]])),
            asyncio.create_task(client.predict(fresh_image(), points=[[1, 1]])),
        ]
        await triton.until(came=2, cancelled=0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(scenario)
