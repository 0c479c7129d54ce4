"""Sends the prompts of a batch to a server, several at a time."""

from __future__ import annotations

import asyncio
import random
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.batch.jobs import Job
from sam3_triton.batch.progress import Progress
from sam3_triton.batch.report import Report, stamp
from sam3_triton.errors import (
    DeadlineExceededError,
    InvalidInputError,
    PredictionError,
    Sam3Error,
    ServerUnavailableError,
)
from sam3_triton.images import EncodedImage
from sam3_triton.instances import Instances
from sam3_triton.predictions import Prediction
from sam3_triton.prompts import Prompt

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
# A busy server refuses some requests. Print a line only if that lasts longer than this.
_TELL_AFTER_S = 2.0
# gRPC cannot carry a message of 2 GiB.
_LARGEST_PHOTO = 1 << 30


class GaveUpError(Sam3Error):
    """The server has not answered for longer than the limit."""


class Run:
    """One run over the prompts that are not done yet."""

    def __init__(
        self, client: AsyncSam3Client, report: Report, progress: Progress, prompts: Path, patience_s: float
    ) -> None:
        """
        Args:
            prompts: the file of prompts, for messages.
            patience_s: seconds to keep trying without any answer from the server.
        """
        self._client = client
        self._report = report
        self._progress = progress
        self._prompts = prompts
        self._patience = _Patience(progress, patience_s)
        self.succeeded = 0
        self.failed = 0

    async def carry_out(self, jobs: Iterable[Job], concurrency: int) -> None:
        """Runs all jobs, `concurrency` at a time, and writes a line of the report for each.

        Raises:
            GaveUpError: the server has not answered for too long. Finished jobs are in the report.
            OSError: a mask or the report cannot be written.
        """
        queue = iter(jobs)
        workers = [asyncio.create_task(self._work(queue)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, queue: Iterator[Job]) -> None:
        for job in queue:
            try:
                photo = stamp(job.photo)
                image = await asyncio.to_thread(_read, job.photo)
                answer = await self._predict(job, image)
            except GaveUpError:
                raise
            except Sam3Error as error:
                fault = " ".join(str(error).split())
                self._progress.say(f"{self._prompts}:{job.line}: {job.image}: {fault}")
                self._report.failed(job, fault)
                self.failed += 1
                self._progress.advance(failed=True)
            else:
                self._report.succeeded(job, answer.mask_pngs, answer.scores, photo, _details(answer))
                self.succeeded += 1
                self._progress.advance()

    async def _predict(self, job: Job, image: EncodedImage) -> Prediction | Instances:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                with self._patience:
                    if isinstance(job.prompt, Prompt):
                        return await self._client.segment(image, job.prompt, logits=False)
                    (found,) = await self._client.find_concepts(image, [job.prompt])
                    return found
            except ServerUnavailableError as error:
                self._patience.refused(error)
            except (DeadlineExceededError, PredictionError) as error:
                # If a probe succeeds, this prompt is at fault; otherwise the server hangs, is stopping or is broken.
                if await self._client.is_ready():
                    self._patience.answered()
                    raise
                self._patience.refused(error)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Patience:
    """Measures how long the server has not answered. Entered for each request."""

    def __init__(self, progress: Progress, limit_s: float) -> None:
        self._progress = progress
        self._limit_s = limit_s
        self._under_way = 0
        self._refused_since: float | None = None
        self._told = False

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._under_way -= 1
        if error is None or isinstance(error, InvalidInputError):
            self.answered()

    def answered(self) -> None:
        """Records that the server works."""
        self._refused_since = None
        if self._told:
            self._told = False
            self._progress.say("the server answers again")

    def refused(self, error: Sam3Error) -> None:
        """Records a refusal.

        Raises:
            GaveUpError: the limit is exceeded and no request is in flight (one might be encoding a slow image).
        """
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        silence_s = now - self._refused_since
        if silence_s >= self._limit_s and not self._under_way:
            raise GaveUpError(f"{error}; no answer for {self._limit_s:g} s") from error
        if silence_s >= min(_TELL_AFTER_S, self._limit_s) and not self._told:
            self._told = True
            self._progress.say(f"waiting up to {self._limit_s:g} s for the server: {error}")


def _details(answer: Prediction | Instances) -> dict[str, Any]:
    """What the report's line of a concept has beside that of a click."""
    if isinstance(answer, Prediction):
        return {}
    boxes = [[round(side, 2) for side in box] for box in answer.boxes.tolist()]
    return {"boxes": boxes, "presence": round(answer.presence, 6), "truncated": answer.truncated}


def _read(photo: Path) -> EncodedImage:
    try:
        status = photo.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError("not a regular file")
        if status.st_size > _LARGEST_PHOTO:
            raise InvalidInputError(
                f"the file is too large: {status.st_size / 1e9:.1f} GB, at most {_LARGEST_PHOTO / 1e9:.1f} GB"
            )
        return EncodedImage.of(photo.read_bytes())
    except OSError as error:
        raise InvalidInputError(error.strerror or str(error)) from error
