"""The command `sam3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sam3_triton.client import DEFAULT_URL, Sam3Client
from sam3_triton.errors import Sam3Error
from sam3_triton.images import EncodedImage
from sam3_triton.masks import open_image, overlay, save_mask


class _PointAction(argparse.Action):
    """Collects points as [x, y, label]; a --label belongs to the --point before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        points: list[list[float]] = getattr(namespace, self.dest) or []
        if option_string == "--point":
            points = [*points, [*values, 1]]
        elif not points:
            parser.error("--label belongs behind the --point that it is for")
        else:
            points = [*points[:-1], [*points[-1][:2], values]]
        setattr(namespace, self.dest, points)


def _numbers(count: int, form: str) -> Any:
    def parse(text: str) -> list[float]:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"expected {form}, not {text!r}")
        return values

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sam3", description="Segment with a SAM 3 that a Triton serves.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict = commands.add_parser("predict", help="segment one photo", description="Segment one photo.")
    predict.add_argument("photo", type=Path, metavar="PHOTO", help="an image file")
    predict.add_argument(
        "--point",
        dest="points",
        action=_PointAction,
        type=_numbers(2, "X,Y"),
        metavar="X,Y",
        help="a click in pixels, origin top left; may be given again",
    )
    predict.add_argument(
        "--label",
        dest="points",
        action=_PointAction,
        type=int,
        choices=(0, 1),
        help="of the --point before it: 1 foreground (default), 0 background",
    )
    predict.add_argument("--box", type=_numbers(4, "X1,Y1,X2,Y2"), metavar="X1,Y1,X2,Y2", help="a box in pixels")
    predict.add_argument("--multimask", action="store_true", help="three candidates instead of one mask")
    predict.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("mask.png"),
        metavar="PNG",
        help="the mask; further candidates get .2 and .3 before the suffix (default: %(default)s)",
    )
    predict.add_argument("--overlay", type=Path, metavar="PNG", help="the photo with mask and prompt drawn over it")
    _add_url(predict, "--url")

    probe = commands.add_parser(
        "probe",
        help="exit with 0 if a server answers a click, else with 1",
        description="Click on a small picture and exit with 0 if a mask comes back, else with 1 and the reason: the "
        "readiness and liveness probe of containers. Triton's own readiness endpoints say yes even where the process "
        "of a model has died.",
    )
    _add_url(probe, "--url")

    # It parses its arguments by itself: settings come from the environment too.
    commands.add_parser("gateway", help="serve masks over HTTP, and a page to click on", add_help=False)
    return parser


def _add_url(parser: argparse.ArgumentParser, flag: str) -> None:
    parser.add_argument(
        flag,
        dest="url",
        default=DEFAULT_URL,
        metavar="URL",
        help="Triton: host:port (gRPC), or http://host:port (default: %(default)s)",
    )


def _predict(options: argparse.Namespace) -> None:
    points = [point[:2] for point in options.points or []]
    labels = [int(point[2]) for point in options.points or []]
    image = EncodedImage.of(options.photo)
    with Sam3Client(options.url) as client:
        prediction = client.predict(
            image.data, points=points, labels=labels, box=options.box, multimask=options.multimask
        )
    for rank, (png, score) in enumerate(zip(prediction.mask_pngs, prediction.scores, strict=True), start=1):
        path = options.output if rank == 1 else options.output.with_suffix(f".{rank}{options.output.suffix}")
        print(f"{save_mask(png, path)}  score {score:.3f}")
    if options.overlay:
        picture = overlay(open_image(image.data), prediction.masks[0], points, labels, options.box)
        picture.save(options.overlay)
        print(options.overlay.absolute())


def _probe(options: argparse.Namespace) -> None:
    with Sam3Client(options.url) as client:
        client.probe()
    print("ready")


def _gateway(arguments: list[str]) -> None:
    from sam3_triton.gateway import command

    command.run(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 1 with one line on standard error."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    try:
        if options.command == "gateway":
            _gateway(unknown)
        elif unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        else:
            {"predict": _predict, "probe": _probe}[options.command](options)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'sam3-triton[gateway]'")
    except Sam3Error as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 0


def _fail(line: str) -> int:
    print(f"sam3: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
