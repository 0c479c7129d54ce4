"""Carries a request out: what was uploaded, through Triton, unless the caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request, UploadFile

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.gateway.telemetry import Record
from sam3_triton.gateway.uploads import Upload, inspect
from sam3_triton.predictions import Prediction

T = TypeVar("T")
# Of an upload that is looked at on the event loop itself: less than a millisecond's work, to which the ways to a thread
# and back would add as much again.
_AT_ONCE_BYTES = 1 << 20


class ClientClosedError(Exception):
    """The caller has closed its connection; nobody waits for the answer."""


class Segmenter:
    """Between the routes and the client."""

    def __init__(self, client: AsyncSam3Client, max_pixels: int) -> None:
        self._client = client
        self._max_pixels = max_pixels

    async def inspect(self, request: Request, file: UploadFile) -> Upload:
        """Checks an uploaded image as far as its header.

        Raises:
            InvalidInputError: see `uploads.inspect`.
        """
        with Record.of(request).stage("inspect"):
            if (file.size or 0) <= _AT_ONCE_BYTES:
                upload = inspect(file.file.read(), self._max_pixels)
            else:
                upload = await asyncio.to_thread(lambda: inspect(file.file.read(), self._max_pixels))
        Record.of(request).image_id = upload.image.image_id
        return upload

    async def set_image(self, request: Request, upload: Upload) -> bool:
        """Has it encoded; returns whether it was cached already.

        Raises:
            Sam3Error: see `Sam3Client.set_image`.
            ClientClosedError: the caller went away.
        """
        record = Record.of(request)
        with record.stage("triton"):
            record.cache_hit = await _unless_closed(request, self._client.prefetch(upload.image))
        return record.cache_hit

    async def predict(
        self, request: Request, upload: Upload | None, image_id: str | None, prompt: dict[str, Any], logits: bool
    ) -> Prediction:
        """Segments an image, or the cached one of that id.

        Args:
            prompt: what `Sam3Client.predict` takes for a prompt.
            logits: as there.

        Raises:
            Sam3Error: see `Sam3Client.predict`.
            ClientClosedError: the caller went away.
        """
        record = Record.of(request)
        image = None if upload is None else upload.image
        with record.stage("triton"):
            work = self._client.predict(image, image_id=image_id, logits=logits, **prompt)
            prediction = await _unless_closed(request, work)
        record.image_id, record.cache_hit = prediction.image_id, prediction.cache_hit
        return prediction


async def _unless_closed(request: Request, work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(_closed(request))
    try:
        await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientClosedError
    finally:
        for each in (task, closed):
            each.cancel()
        with suppress(asyncio.CancelledError):
            await closed


async def _closed(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
