"""`sam3 batch`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam3_triton.cli.arguments import add_url, positive


def add_parser(commands: Any) -> None:
    """The arguments of the command."""
    batch = commands.add_parser(
        "batch",
        help="segment a folder of photos by a file of prompts",
        description="Segment photos by a file of prompts, one JSON object a line: "
        '{"image": "a/b.jpg", "points": [[x, y], ...], "labels": [1, 0, ...], "box": [x1, y1, x2, y2], '
        '"multimask": false, "name": "cup"}; image is relative to FOLDER, and points or a box are needed. The mask '
        "goes to OUT/a/b.cup.png (without a name, the line's number takes its place), and what became of each prompt "
        "to OUT/report.jsonl. The same command again skips what is done and tries again what failed.",
        epilog="Exit codes: 0 every prompt has its mask; 1 the run could not start or go on; 2 wrong usage; 3 some "
        "prompts failed (each told on standard error and in the report); 130 stopped by Ctrl-C or SIGTERM.",
    )
    batch.add_argument("folder", type=Path, metavar="FOLDER", help="where the photos lie")
    batch.add_argument("--prompts", type=Path, required=True, metavar="JSONL", help="the file of prompts")
    batch.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a folder for the masks")
    batch.add_argument(
        "--concurrency", type=positive(int), default=4, metavar="N", help="prompts at one time (default: %(default)s)"
    )
    batch.add_argument(
        "--multimask", action="store_true", help="three candidates each, for prompts that say nothing of it"
    )
    batch.add_argument(
        "--wait",
        type=positive(float),
        default=30.0,
        metavar="S",
        help="seconds to try on while the server is busy or away (default: %(default)g)",
    )
    batch.add_argument(
        "--timeout",
        type=positive(float),
        default=300.0,
        metavar="S",
        help="seconds that one prompt may take (default: %(default)g)",
    )
    add_url(batch, "--url")


def run(options: argparse.Namespace) -> int:
    """Runs the batch and returns the exit code."""
    from sam3_triton.batch import Options, run_batch

    return run_batch(
        Options(
            folder=options.folder,
            prompts=options.prompts,
            out=options.output,
            url=options.url,
            concurrency=options.concurrency,
            multimask=options.multimask,
            timeout_s=options.timeout,
            patience_s=options.wait,
        )
    )
