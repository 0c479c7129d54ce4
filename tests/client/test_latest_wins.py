"""Superseded clicks, as the server sees them."""

from __future__ import annotations

import asyncio

import pytest
from pictures import fresh_image
from sam3_triton import AsyncSam3Client, SupersededError
from silent_triton import SilentTriton, silent_triton


async def until(triton: SilentTriton, came: int, cancelled: int) -> None:
    await asyncio.to_thread(triton.wait_for, came, cancelled)


def test_a_later_click_cancels_the_call_of_the_earlier_one() -> None:
    async def scenario(triton: SilentTriton, address: str) -> None:
        async with AsyncSam3Client(address) as client:
            clicks = client.latest_wins()
            image = fresh_image()
            first = asyncio.create_task(clicks.predict(image, points=[[1, 1]]))
            await until(triton, came=1, cancelled=0)
            second = asyncio.create_task(clicks.predict(image, points=[[2, 2]]))
            with pytest.raises(SupersededError):
                await first
            await until(triton, came=2, cancelled=1)
            assert not second.done()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await until(triton, came=2, cancelled=2)

    with silent_triton() as (triton, address):
        asyncio.run(scenario(triton, address))


def test_clicks_of_two_people_do_not_disturb_each_other() -> None:
    async def scenario(triton: SilentTriton, address: str) -> None:
        async with AsyncSam3Client(address) as client:
            people = (client.latest_wins(), client.latest_wins(), client)
            tasks = [asyncio.create_task(person.predict(fresh_image(), points=[[1, 1]])) for person in people]
            await until(triton, came=3, cancelled=0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with silent_triton() as (triton, address):
        asyncio.run(scenario(triton, address))
