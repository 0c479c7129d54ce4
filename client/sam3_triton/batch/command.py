"""Runs `sam3 batch`, from its options to its exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.batch.local_store import LocalStore
from sam3_triton.batch.names import possible_series
from sam3_triton.batch.opening import open_file, open_store
from sam3_triton.batch.progress import Progress
from sam3_triton.batch.prompts_file import Fault, Jobs, parse
from sam3_triton.batch.report import Report, report_name
from sam3_triton.batch.run import GaveUpError, Run
from sam3_triton.batch.shards import Shard
from sam3_triton.batch.store import Store, overlap
from sam3_triton.errors import InvalidInputError

ALL_DONE, STOPPED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130
# An object store answers many questions at one time, each in tens of milliseconds.
_CHECKS_AT_ONE_TIME, _JOBS_PER_CHECK = 32, 64


@dataclass(frozen=True)
class Options:
    """Options of one run.

    Attributes:
        folder: the folder of photos, a path or a URL.
        prompts: the file of prompts, a path or a URL.
        out: the folder for the masks and the report, a path or a URL.
        url: Triton's address.
        concurrency: number of prompts in flight.
        multimask: default for prompts without this key.
        timeout_s: limit for one prompt, in seconds.
        patience_s: seconds to keep trying without any answer from the server.
        shard: the part of the prompts to run; None for all.
    """

    folder: str
    prompts: str
    out: str
    url: str
    concurrency: int
    multimask: bool
    timeout_s: float
    patience_s: float
    shard: Shard | None = None


def run_batch(options: Options) -> int:
    """Runs a batch and returns the exit code: 0 all masks exist, 1 stopped, 3 some prompts failed, 130 interrupted.

    Raises:
        Sam3Error, OSError: the run could not start, or a file could not be written.
    """
    photos, out, name = open_store(options.folder), open_store(options.out), report_name(options.shard)
    jobs = _jobs(options, photos, out, name)
    if jobs is None:
        return STOPPED
    with out.alone(name, whole=options.shard is None):
        report = Report(out, name)
        to_do = jobs.select(~_done(report, jobs, photos)).grouped()
        there = len(jobs) - len(to_do)
        try:
            with Progress(len(jobs), there) as progress:
                stopped, run = asyncio.run(_carry_out(options, photos, to_do, report, progress))
        finally:
            report.tidy(jobs)
    return _conclude(out.show(name), len(jobs), there, run, stopped)


def _jobs(options: Options, photos: Store, out: Store, report: str) -> Jobs | None:
    """The jobs of this run; None if the file has invalid lines, which are printed."""
    if isinstance(photos, LocalStore) and not photos.root.is_dir():
        raise InvalidInputError(f"{options.folder}: no such directory")
    if out.location == photos.location:
        raise InvalidInputError(f"the output folder must not be the folder of photos: {options.folder}")
    folder, name = open_file(options.prompts)
    if folder.locate(name) == out.locate(report):
        raise InvalidInputError(f"the report would overwrite {options.prompts}; rename that file")
    jobs, faults = parse(folder.read(name), photos, options.multimask)
    if overlap(photos, out):
        faults = sorted([*faults, *_overwriting(jobs, photos, out)])
    for line, fault in faults:
        print(f"{options.prompts}:{line}: {fault}", file=sys.stderr)
    if faults:
        print(f"sam3: {_count(len(faults), 'invalid line')} in {options.prompts}; nothing was sent", file=sys.stderr)
        return None
    if not len(jobs):
        raise InvalidInputError(f"{options.prompts}: no prompts in this file")
    return jobs.of_shard(options.shard) if options.shard else jobs


def _overwriting(jobs: Jobs, photos: Store, out: Store) -> list[Fault]:
    """The lines whose masks would overwrite a photo of any line."""
    taken = {photos.locate(job.image) for job in jobs}
    series = {path for photo in taken if photo.endswith(".png") for path in possible_series(photo)}
    return [
        Fault(job.line, f"its mask would overwrite a photo in {out.show('')}; set name or use another output folder")
        for job in jobs
        if any(f"{out.location}/{output}" in taken for output in job.outputs)
        or (job.series and f"{out.location}/{job.series}" in series)
    ]


def _done(report: Report, jobs: Jobs, photos: Store) -> np.ndarray:
    """Which jobs earlier runs have done: bool [N]."""
    if not len(report):
        return np.zeros(len(jobs), bool)

    def check(first: int) -> list[bool]:
        rows = range(first, min(first + _JOBS_PER_CHECK, len(jobs)))
        return [report.is_done(jobs[row], photos) for row in rows]

    with ThreadPoolExecutor(_CHECKS_AT_ONE_TIME) as threads:
        parts = threads.map(check, range(0, len(jobs), _JOBS_PER_CHECK))
        return np.array([done for part in parts for done in part], bool)


async def _carry_out(
    options: Options, photos: Store, jobs: Jobs, report: Report, progress: Progress
) -> tuple[GaveUpError | str | None, Run]:
    """Runs the jobs. Returns the error or the name of the signal that stopped it early, or None."""
    async with AsyncSam3Client(options.url, timeout_s=options.timeout_s) as client:
        run = Run(client, photos, report, progress, options.prompts, options.patience_s)
        task = asyncio.ensure_future(run.carry_out(jobs, options.concurrency))
        loop = asyncio.get_running_loop()
        received: list[str] = []

        def stop(number: signal.Signals) -> None:
            received.append(number.name)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        try:
            await task
        except GaveUpError as error:
            return error, run
        except asyncio.CancelledError:
            if not received:
                raise
            return received[0], run
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return None, run


def _conclude(report: str, total: int, there: int, run: Run, stopped: GaveUpError | str | None) -> int:
    done = there + run.succeeded
    if stopped is not None:
        left = f"{done} of {_count(total, 'prompt')} done, {run.failed} failed; run the same command again to continue"
        reason = f"stopped by {stopped}" if isinstance(stopped, str) else f"stopped: {stopped}"
        if run.succeeded == run.failed == 0 and not isinstance(stopped, str):
            left += "; run `sam3 doctor` to find out why"
        print(f"sam3: {reason}. {left}", file=sys.stderr)
        return INTERRUPTED if isinstance(stopped, str) else STOPPED
    parts = [f"{done} of {_count(total, 'prompt')} done"]
    if there:
        parts[0] += f" ({there} of them by earlier runs)"
    if run.failed:
        parts.append(f"{run.failed} failed (run the same command again to retry)")
    print(f"{', '.join(parts)}: {report}")
    return SOME_FAILED if run.failed else ALL_DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
