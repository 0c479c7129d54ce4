"""`sam3 batch`."""

from __future__ import annotations

import argparse
from typing import Any

from sam3_triton.cli.arguments import add_url, positive


def add_parser(commands: Any) -> None:
    """Adds the command and its arguments."""
    batch = commands.add_parser(
        "batch",
        help="segment a folder of photos with a file of prompts",
        description="Segment photos with a file of prompts, one JSON object per line: "
        '{"image": "a/b.jpg", "points": [[x, y], ...], "labels": [1, 0, ...], "box": [x1, y1, x2, y2], '
        '"multimask": false, "name": "cup"} for a click, or {"image": "a/b.jpg", "text": "red cup", "boxes": '
        '[[x0, y0, x1, y1], ...], "box_labels": [1, ...], "threshold": 0.5, "nms_iou": 0.9} for every instance of a '
        "concept. image is relative to FOLDER. A click needs points or a box, a concept a text or boxes. The mask is "
        "written to OUT/a/b.cup.png (name defaults to the line's number), and the result of each prompt to "
        "OUT/report.jsonl. FOLDER, JSONL and OUT may be URLs such as s3://bucket/photos. "
        "Run the same command again to continue: it skips finished prompts and retries failed ones.",
        epilog="Exit codes: 0 every prompt has its mask; 1 the run could not start or continue; 2 wrong usage; 3 some "
        "prompts failed (see standard error or the report); 130 stopped by Ctrl-C or SIGTERM.",
    )
    batch.add_argument("folder", metavar="FOLDER", help="the folder of photos")
    batch.add_argument("--prompts", required=True, metavar="JSONL", help="the file of prompts")
    batch.add_argument("-o", "--output", required=True, metavar="OUT", help="the folder for the masks")
    batch.add_argument(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="run only part K of N, with K from 0 to N-1. All prompts on a photo are in one part. Its report is "
        "OUT/report-0000K-of-0000N.jsonl",
    )
    batch.add_argument(
        "--concurrency", type=positive(int), default=4, metavar="N", help="prompts in flight (default: %(default)s)"
    )
    batch.add_argument(
        "--multimask", action="store_true", help="write three candidates for prompts without the key multimask"
    )
    batch.add_argument(
        "--wait",
        type=positive(float),
        default=30.0,
        metavar="S",
        help="stop after this many seconds without any answer from the server (default: %(default)g)",
    )
    batch.add_argument(
        "--timeout",
        type=positive(float),
        default=300.0,
        metavar="S",
        help="limit for one prompt, in seconds (default: %(default)g)",
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
            shard=options.shard,
        )
    )


def _shard(text: str) -> Any:
    from sam3_triton.batch.shards import Shard

    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
