"""Runs requests on the backend, and cancels them if the caller disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request, UploadFile
from sam3_triton import CachedImage, ConceptPrompt, Instances, InvalidInputError, Prediction, Prompt

from sam3_gateway import forms
from sam3_gateway.backend import Backend
from sam3_gateway.telemetry import Record
from sam3_gateway.uploads import Upload, inspect

T = TypeVar("T")
# Uploads up to this size are inspected on the event loop: that takes less than a millisecond, and switching to a thread
# would double it.
_AT_ONCE_BYTES = 1 << 20


class ClientClosedError(Exception):
    """The caller has disconnected."""


class Segmenter:
    """Connects the routes to the backend."""

    def __init__(self, backend: Backend, max_pixels: int, formats: tuple[str, ...]) -> None:
        self._backend = backend
        self._max_pixels = max_pixels
        self._formats = formats

    async def inspect(self, request: Request, file: UploadFile) -> Upload:
        """Reads an uploaded image's header and computes its id.

        Raises:
            InvalidInputError: see `uploads.inspect`.
        """
        with Record.of(request).stage("inspect"):
            if (file.size or 0) <= _AT_ONCE_BYTES:
                upload = inspect(file.file.read(), self._max_pixels, self._formats)
            else:
                upload = await asyncio.to_thread(lambda: inspect(file.file.read(), self._max_pixels, self._formats))
        Record.of(request).image_id = upload.image.image_id
        return upload

    async def choose(self, request: Request, image: UploadFile | None, image_id: str) -> Upload | CachedImage:
        """Returns the image of a request: uploaded, or cached under an id. An empty id is a missing one.

        Raises:
            InvalidInputError: neither or both were given, the id is malformed, or see `uploads.inspect`.
        """
        if (image is None) == (not image_id):
            raise InvalidInputError("give an image or an image_id, and not both")
        if image is None:
            return CachedImage(forms.parse_image_id(image_id))
        return await self.inspect(request, image)

    async def set_image(self, request: Request, upload: Upload) -> bool:
        """Encodes and caches an uploaded image. Returns whether it was already cached.

        Raises:
            Sam3Error: see `Sam3Client.set_image`.
            ClientClosedError: the caller disconnected.
        """
        record = Record.of(request)
        with record.stage("triton"):
            prefetch = await _unless_closed(request, self._backend.prefetch(upload.image))
        record.cache_hit, record.model = prefetch.cache_hit, prefetch.model
        return prefetch.cache_hit

    async def segment(
        self, request: Request, image: Upload | CachedImage, prompts: Sequence[Prompt], *, logits: bool
    ) -> list[Prediction]:
        """Segments objects of an uploaded or a cached image. Returns a prediction for each.

        Args:
            logits: whether to request the low-resolution logits.

        Raises:
            Sam3Error: see `Backend.segment_objects`.
            ClientClosedError: the caller disconnected.
        """
        record = Record.of(request)
        known = image.image if isinstance(image, Upload) else image
        with record.stage("triton"):
            answer = self._backend.segment_objects(known, prompts, logits=logits)
            predictions = await _unless_closed(request, answer)
        first = predictions[0]
        record.image_id, record.cache_hit, record.model = first.image_id, first.cache_hit, first.model
        return predictions

    async def find(
        self, request: Request, image: Upload | CachedImage, prompts: Sequence[ConceptPrompt]
    ) -> list[Instances]:
        """Finds concepts in an uploaded or a cached image. Returns the instances of each.

        Raises:
            Sam3Error: see `Backend.find_concepts`.
            ClientClosedError: the caller disconnected.
        """
        record = Record.of(request)
        known = image.image if isinstance(image, Upload) else image
        with record.stage("triton"):
            found = await _unless_closed(request, self._backend.find_concepts(known, prompts))
        first = found[0]
        record.image_id, record.cache_hit, record.model = first.image_id, first.cache_hit, first.model
        return found


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
