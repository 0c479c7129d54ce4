"""The command `sam3-export`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Collection
from pathlib import Path

from sam3_export.demo import CHECKPOINT
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS
from sam3_export.installation import REPORT

_USUAL_FORMATS = tuple(format_.name for format_ in FORMATS.values() if format_.usual)


# What `--components` may name. Concept prompts need the image encoder of the clicks.
_COMPONENTS = ("clicks", "concepts")


def _components(text: str) -> tuple[str, ...]:
    names = _names(text, "component", _COMPONENTS)
    if "clicks" not in names:
        raise argparse.ArgumentTypeError("concepts need clicks, with which they share the image encoder")
    return names


def _formats(text: str) -> tuple[str, ...]:
    return _names(text, "format", FORMATS)


def _names(text: str, kind: str, known: Collection[str]) -> tuple[str, ...]:
    """The names in a list that is separated by commas, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = ", ".join(unknown) or repr(text)
        raise argparse.ArgumentTypeError(f"unknown {kind} {wrong}; choose from {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sam3-export",
        description="Exports a SAM 3 checkpoint to the models that Triton serves.\n"
        "Compares every artifact with PyTorch, and installs them only if all agree; each\n"
        "export replaces the installed one. Its report is export.json, beside the artifacts.\n\n"
        "An export that fails or is interrupted keeps the files that have passed. The next one\n"
        "of the same checkpoint, with the same versions, reuses them; any other deletes them.",
        epilog="formats:\n" + "\n".join(f"  {name:<18}{format_.description}" for name, format_ in FORMATS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="Meta's sam3.1_multiplex.pt or sam3.pt (or a file in such a layout), a directory saved by transformers, "
        "or a Hugging Face id such as facebook/sam3 (default: the small demonstration checkpoint)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="JSON", help="sizes of the network, for a file that is not of SAM 3's size"
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
        help=f"formats to write, separated by commas; see below (default: {','.join(_USUAL_FORMATS)})",
    )
    parser.add_argument(
        "--components",
        type=_components,
        metavar="LIST",
        help="clicks, or clicks,concepts. Concepts are texts and example boxes, of which SAM 3 finds every instance; "
        "with them an image takes twice as much of the server's cache (default: what the checkpoint has)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.checkpoint is None:
        if options.config is not None:
            parser.error("--config needs --checkpoint")
        options.checkpoint, options.config = str(CHECKPOINT), CHECKPOINT.with_suffix(".json")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        from sam3_export import checkpoint, exporter
        from sam3_export.progress import Steps
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; run pip install ./export")
    steps = Steps()
    try:
        with steps.step(f"Reading {options.checkpoint}") as step:
            concepts = None if options.components is None else "concepts" in options.components
            loaded = checkpoint.load(options.checkpoint, options.config, concepts)
            prompts = "clicks" if loaded.concepts is None else "clicks and concepts"
            step.result = f"{loaded.release}, {prompts}, {loaded.parameters / 1e6:.1f} M parameters"
        folder = exporter.export(loaded, options.repository, options.formats, steps)
    except ExportError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(f"{error.filename or options.repository}: no space left on the device")
        return _fail(f"{error.filename or options.repository}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _fail("interrupted; the installed models are unchanged")
    print(f"Installed in {options.repository}; the report is {folder / REPORT}")
    return 0


def _fail(line: str) -> int:
    print(f"sam3-export: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
