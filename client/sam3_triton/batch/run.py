"""Sends the prompts of a batch to a server, several at a time."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.batch.jobs import Job
from sam3_triton.batch.progress import Progress
from sam3_triton.batch.reading import Reader
from sam3_triton.batch.report import Report
from sam3_triton.batch.store import Store, StoreError
from sam3_triton.errors import (
    DeadlineExceededError,
    InvalidInputError,
    NoServerError,
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
# A killed run may lose the lines of this long, if its report is in an object store.
_FLUSH_EVERY_S = 2.0


class GaveUpError(Sam3Error):
    """The server has not answered for longer than the limit."""


class Run:
    """One run over the prompts that are not done yet."""

    def __init__(
        self,
        client: AsyncSam3Client,
        photos: Store,
        report: Report,
        progress: Progress,
        prompts: str,
        patience_s: float,
    ) -> None:
        """
        Args:
            prompts: the file of prompts, for messages.
            patience_s: seconds to keep trying without any answer from the server.
        """
        self._client = client
        self._photos = photos
        self._report = report
        self._progress = progress
        self._prompts = prompts
        self._patience = _Patience(progress, patience_s)
        self._counting = threading.Lock()
        self.succeeded = 0
        self.failed = 0

    async def carry_out(self, jobs: Iterable[Job], concurrency: int) -> None:
        """Runs all jobs, `concurrency` at a time, and writes a line of the report for each.

        Raises:
            GaveUpError: the server has not answered for too long. Finished jobs are in the report.
            OSError, StoreError: a mask or the report cannot be written, or the photos' store fails.
        """
        # For each worker: a photo that is read ahead, one that is waited for, and a mask that is written.
        executor = ThreadPoolExecutor(3 * concurrency, "batch")
        reader = Reader(self._photos, iter(jobs), executor, ahead=concurrency)
        working = asyncio.gather(*(self._work(reader, executor) for _ in range(concurrency)))
        flushing = asyncio.create_task(self._flush(executor))
        try:
            both: list[asyncio.Future[Any]] = [working, flushing]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if flushing.done():
                await flushing
            await working
        finally:
            working.cancel()
            flushing.cancel()
            await asyncio.gather(working, flushing, return_exceptions=True)
            reader.close()
            # Results that are being written are written to the end, and are counted.
            executor.shutdown(cancel_futures=True)

    async def _work(self, reader: Reader, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while following := reader.next():
            job, reading = following
            try:
                photo = await reading
                answer = await self._predict(job, photo.image)
            except (GaveUpError, StoreError):
                raise
            except Sam3Error as error:
                await loop.run_in_executor(executor, self._failed, job, " ".join(str(error).split()))
            else:
                await loop.run_in_executor(executor, self._succeeded, job, answer, photo.stamp)

    async def _flush(self, executor: ThreadPoolExecutor) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            await asyncio.get_running_loop().run_in_executor(executor, self._report.flush)

    def _succeeded(self, job: Job, answer: Prediction | Instances, stamp: str) -> None:
        self._report.succeeded(job, answer.mask_pngs, answer.scores, stamp, _details(answer))
        with self._counting:
            self.succeeded += 1
            self._progress.advance()

    def _failed(self, job: Job, fault: str) -> None:
        self._report.failed(job, fault)
        with self._counting:
            self.failed += 1
            self._progress.say(f"{self._prompts}:{job.line}: {job.image}: {fault}")
            self._progress.advance(failed=True)

    async def _predict(self, job: Job, image: EncodedImage) -> Prediction | Instances:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                with self._patience.request():
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
    """Measures how long the server has not answered."""

    def __init__(self, progress: Progress, limit_s: float) -> None:
        self._progress = progress
        self._limit_s = limit_s
        self._in_flight: list[float] = []  # when each request was sent
        self._refused_since: float | None = None
        self._told = False

    @contextmanager
    def request(self) -> Iterator[None]:
        """Encloses a request; its success, or a refusal of its input, is an answer."""
        sent = time.monotonic()
        self._in_flight.append(sent)
        try:
            yield
        except InvalidInputError:
            self.answered()
            raise
        else:
            self.answered()
        finally:
            self._in_flight.remove(sent)

    def answered(self) -> None:
        """Records that the server works."""
        self._refused_since = None
        if self._told:
            self._told = False
            self._progress.say("the server answers again")

    def refused(self, error: Sam3Error) -> None:
        """Records a refusal.

        Raises:
            GaveUpError: the limit is exceeded, and no request in flight can still be answered.
        """
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        silence_s = now - self._refused_since
        # A busy server may be encoding a slow image for any request in flight. Without a server, only for those that
        # another server of a fleet may have: the ones sent before. All later ones are waiting to fail, too.
        gone = isinstance(error, NoServerError)
        hopeful = any(not gone or sent < self._refused_since for sent in self._in_flight)
        if silence_s >= self._limit_s and not hopeful:
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
