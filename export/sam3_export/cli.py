"""The command `sam3-export`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path

from sam3_export.demo import CHECKPOINT
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS
from sam3_export.installation import REPORT

_USUAL_FORMATS = tuple(format_.name for format_ in FORMATS.values() if format_.usual)


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown format {unknown or text!r}; there are {', '.join(FORMATS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sam3-export",
        description="Turn a SAM 3 checkpoint into the image encoder and the mask decoder that Triton serves. "
        "Every artifact is compared with PyTorch before anything is installed; a report lies beside them.",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="Meta's sam3.pt (or a file in its layout), a directory saved by transformers, "
        "or a hub id such as facebook/sam3 (default: the small demonstration checkpoint)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="JSON", help="sizes of the network, for a file that is not SAM 3's own size"
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="the model repository to install into (default: %(default)s)",
    )
    parser.add_argument(
        "--formats",
        type=_formats,
        default=_USUAL_FORMATS,
        metavar="LIST",
        help=f"comma-separated, of {', '.join(FORMATS)} (default: {','.join(_USUAL_FORMATS)}); those in fp16 are "
        "for GPUs; onnx-int8 is an image encoder for CPUs, smaller and faster, beside the mask decoder of onnx",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.checkpoint is None:
        if options.config is not None:
            parser.error("--config goes with a --checkpoint")
        options.checkpoint, options.config = str(CHECKPOINT), CHECKPOINT.with_suffix(".json")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        from sam3_export import checkpoint, exporter
        from sam3_export.progress import Steps
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; it comes with sam3-export: pip install ./export")
    steps = Steps()
    try:
        with steps.step(f"Reading {options.checkpoint}") as step:
            loaded = checkpoint.load(options.checkpoint, options.config)
            step.result = f"{sum(p.numel() for p in loaded.model.parameters()) / 1e6:.1f} M parameters"
        folder = exporter.export(loaded, options.repository, options.formats, steps)
    except ExportError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(f"{error.filename or options.repository}: no space left on the device")
        return _fail(f"{error.filename or options.repository}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _fail("interrupted; the repository is as it was")
    print(f"Installed in {options.repository}; the report is {folder / REPORT}")
    return 0


def _fail(line: str) -> int:
    print(f"sam3-export: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
