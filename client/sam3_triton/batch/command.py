"""Runs `sam3 batch`, from its options to its exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.batch.jobs import Job, parse, possible_series
from sam3_triton.batch.progress import Progress
from sam3_triton.batch.report import REPORT, Report, alone
from sam3_triton.batch.run import GaveUpError, Run
from sam3_triton.errors import InvalidInputError

ALL_DONE, STOPPED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class Options:
    """Options of one run.

    Attributes:
        folder: the folder of photos.
        prompts: the file of prompts.
        out: the folder for the masks and the report.
        url: Triton's address.
        concurrency: number of prompts in flight.
        multimask: default for prompts without this key.
        timeout_s: limit for one prompt, in seconds.
        patience_s: seconds to keep trying without any answer from the server.
    """

    folder: Path
    prompts: Path
    out: Path
    url: str
    concurrency: int
    multimask: bool
    timeout_s: float
    patience_s: float


def run_batch(options: Options) -> int:
    """Runs a batch and returns the exit code: 0 all masks exist, 1 stopped, 3 some prompts failed, 130 interrupted.

    Raises:
        Sam3Error, OSError: the run could not start, or a file could not be written.
    """
    jobs = _jobs(options)
    if not jobs:
        return STOPPED
    options.out.mkdir(parents=True, exist_ok=True)
    with alone(options.out):
        report = Report(options.out)
        to_do = [job for job in jobs if not report.is_done(job)]
        there = len(jobs) - len(to_do)
        try:
            with Progress(len(jobs), there) as progress:
                stopped, run = asyncio.run(_carry_out(options, to_do, report, progress))
        finally:
            report.tidy(jobs)
    return _conclude(options, len(jobs), there, run, stopped)


def _jobs(options: Options) -> list[Job]:
    if not options.folder.is_dir():
        raise InvalidInputError(f"{options.folder}: no such directory")
    if options.out.resolve() == options.folder.resolve():
        raise InvalidInputError(f"the output folder must not be the folder of photos: {options.folder}")
    if options.prompts.resolve() == (options.out / REPORT).resolve():
        raise InvalidInputError(f"the report would overwrite {options.prompts}; rename that file")
    jobs, faults = parse(options.prompts.read_bytes(), options.folder, options.multimask)
    out, photos = options.out.resolve(), {job.photo.resolve() for job in jobs}
    series = {path for photo in photos if photo.suffix == ".png" for path in possible_series(str(photo))}
    for job in jobs:
        if any(out / output in photos for output in job.outputs) or (job.series and str(out / job.series) in series):
            faults.append(
                (job.line, f"its mask would overwrite a photo in {options.out}; set name or use another output folder")
            )
    for line, fault in sorted(faults):
        print(f"{options.prompts}:{line}: {fault}", file=sys.stderr)
    if faults:
        print(f"sam3: {_count(len(faults), 'invalid line')} in {options.prompts}; nothing was sent", file=sys.stderr)
        return []
    if not jobs:
        raise InvalidInputError(f"{options.prompts}: no prompts in this file")
    return jobs


async def _carry_out(
    options: Options, jobs: list[Job], report: Report, progress: Progress
) -> tuple[GaveUpError | str | None, Run]:
    """Runs the jobs. Returns the error or the name of the signal that stopped it early, or None."""
    async with AsyncSam3Client(options.url, timeout_s=options.timeout_s) as client:
        run = Run(client, report, progress, options.prompts, options.patience_s)
        task = asyncio.ensure_future(run.carry_out(_grouped(jobs), options.concurrency))
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


def _grouped(jobs: Iterable[Job]) -> list[Job]:
    """Groups prompts by image, so that each image is encoded once even if the server's cache is small."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.image, []).append(job)
    return [job for group in groups.values() for job in group]


def _conclude(options: Options, total: int, there: int, run: Run, stopped: GaveUpError | str | None) -> int:
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
    print(f"{', '.join(parts)}: {options.out / REPORT}")
    return SOME_FAILED if run.failed else ALL_DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
