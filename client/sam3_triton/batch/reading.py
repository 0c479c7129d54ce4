"""Reads photos ahead of the requests that need them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from sam3_triton.batch.jobs import Job
from sam3_triton.batch.store import Store, is_inside
from sam3_triton.errors import InvalidInputError
from sam3_triton.images import EncodedImage

# gRPC cannot carry a message of 2 GiB.
_LARGEST_PHOTO = 1 << 30


@dataclass(frozen=True)
class Photo:
    """A photo, and its `Status.stamp` from before it was read."""

    image: EncodedImage
    stamp: str


class Reader:
    """Reads the photos of jobs in other threads, a few ahead, and once for jobs in direct succession."""

    def __init__(self, photos: Store, jobs: Iterator[Job], executor: Executor, ahead: int) -> None:
        """
        Args:
            ahead: number of jobs whose photos are read before anybody asks for them.
        """
        self._photos = photos
        self._jobs = jobs
        self._executor = executor
        self._ahead = ahead
        self._waiting: deque[tuple[Job, asyncio.Future[Photo]]] = deque()

    def next(self) -> tuple[Job, asyncio.Future[Photo]] | None:
        """The next job and its photo, which may raise `InvalidInputError` or `StoreError`; None after the last job."""
        while len(self._waiting) <= self._ahead and (job := next(self._jobs, None)):
            self._waiting.append((job, self._read(job)))
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Drops what was read ahead."""
        for _, photo in self._waiting:
            if not photo.cancel() and not photo.cancelled():
                photo.exception()  # nobody else will look at it

    def _read(self, job: Job) -> asyncio.Future[Photo]:
        if self._waiting and self._waiting[-1][0].image == job.image:
            return self._waiting[-1][1]
        return asyncio.get_running_loop().run_in_executor(self._executor, _read, self._photos, job.image)


def _read(photos: Store, name: str) -> Photo:
    try:
        status = photos.status(name)
        if not status.is_regular:
            raise InvalidInputError("not a regular file")
        if not is_inside(photos.locate(name), photos.location):
            raise InvalidInputError("a link to a file outside the folder of photos")
        if status.size > _LARGEST_PHOTO:
            raise InvalidInputError(
                f"the file is too large: {status.size / 1e9:.1f} GB, at most {_LARGEST_PHOTO / 1e9:.1f} GB"
            )
        return Photo(EncodedImage.of(photos.read(name)), status.stamp)
    except OSError as error:
        raise InvalidInputError(error.strerror or str(error)) from error
