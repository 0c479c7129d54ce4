"""What `sam3 batch` does from its options to its exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam3_triton.async_client import AsyncSam3Client
from sam3_triton.batch.jobs import Job, parse
from sam3_triton.batch.progress import Progress
from sam3_triton.batch.report import REPORT, Report, alone
from sam3_triton.batch.run import GaveUpError, Run
from sam3_triton.errors import InvalidInputError

ALL_DONE, STOPPED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class Options:
    """Of one run.

    Attributes:
        folder: where the photos lie.
        prompts: the file of prompts.
        out: where the masks and the report go.
        url: of Triton.
        concurrency: prompts that are with the server at one time.
        multimask: for prompts that say nothing of it.
        timeout_s: seconds that one prompt may take.
        patience_s: seconds to try on while the server answers nothing.
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
    """Runs a batch and returns the exit code: 0 all masks are there, 1 stopped, 3 some failed, 130 interrupted.

    Raises:
        Sam3Error, OSError: it could not start, or a file could not be written.
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
        raise InvalidInputError(f"{options.folder}: no such folder")
    if options.out.resolve() == options.folder.resolve():
        raise InvalidInputError(f"the masks need a folder of their own, not the photos' {options.folder}")
    if options.prompts.resolve() == (options.out / REPORT).resolve():
        raise InvalidInputError(f"{options.prompts}: the report would overwrite it; give it another name")
    jobs, faults = parse(options.prompts.read_bytes(), options.folder, options.multimask)
    out, photos = options.out.resolve(), {job.photo.resolve() for job in jobs}
    for job in jobs:
        if any(out / output in photos for output in job.outputs):
            faults.append((job.line, f"its mask would overwrite a photo in {options.out}"))
    for line, fault in sorted(faults):
        print(f"{options.prompts}:{line}: {fault}", file=sys.stderr)
    if faults:
        print(f"sam3: {_count(len(faults), 'bad line')} in {options.prompts}; nothing was sent", file=sys.stderr)
        return []
    if not jobs:
        raise InvalidInputError(f"{options.prompts}: no prompts in it")
    return jobs


async def _carry_out(
    options: Options, jobs: list[Job], report: Report, progress: Progress
) -> tuple[GaveUpError | str | None, Run]:
    """Returns why it stopped before the end, if it did: the error, or the name of a signal."""
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
    """Prompts on one image after each other, so that it is encoded once however small the server's cache."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.image, []).append(job)
    return [job for group in groups.values() for job in group]


def _conclude(options: Options, total: int, there: int, run: Run, stopped: GaveUpError | str | None) -> int:
    done = there + run.succeeded
    if stopped is not None:
        left = f"{done} of {_count(total, 'prompt')} done, {run.failed} failed; the same command goes on from there"
        reason = f"stopped by {stopped}" if isinstance(stopped, str) else f"stopped: {stopped}"
        if run.succeeded == run.failed == 0 and not isinstance(stopped, str):
            left += "; `sam3 doctor` may know why"
        print(f"sam3: {reason}. {left}", file=sys.stderr)
        return INTERRUPTED if isinstance(stopped, str) else STOPPED
    parts = [f"{done} of {_count(total, 'prompt')} done"]
    if there:
        parts[0] += f" ({there} of them before)"
    if run.failed:
        parts.append(f"{run.failed} failed, and will be tried again by the same command")
    print(f"{', '.join(parts)}: {options.out / REPORT}")
    return SOME_FAILED if run.failed else ALL_DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
