"""`sam3 predict`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from PIL import Image

from sam3_triton.cli.arguments import add_url, numbers
from sam3_triton.client import Sam3Client
from sam3_triton.errors import InvalidInputError
from sam3_triton.images import EncodedImage
from sam3_triton.masks import open_image, overlay, save_mask
from sam3_triton.prompts import Prompt


def add_parser(commands: Any) -> None:
    """Adds the command and its arguments."""
    predict = commands.add_parser("predict", help="segment one photo", description="Segment one photo.")
    predict.add_argument("photo", type=Path, metavar="PHOTO", help="an image file")
    predict.add_argument(
        "--point",
        dest="points",
        action=_PointAction,
        type=numbers(2, "X,Y"),
        metavar="X,Y",
        help="a click in pixels, origin top left; can be repeated",
    )
    predict.add_argument(
        "--label",
        dest="points",
        action=_PointAction,
        type=int,
        choices=(0, 1),
        help="label of the --point before it: 1 foreground (default), 0 background",
    )
    predict.add_argument(
        "--box",
        dest="boxes",
        action="append",
        default=[],
        type=numbers(4, "X1,Y1,X2,Y2"),
        metavar="X1,Y1,X2,Y2",
        help="a box in pixels; can be repeated, to segment several objects",
    )
    predict.add_argument("--multimask", action="store_true", help="write three candidates instead of one mask")
    predict.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("mask.png"),
        metavar="PNG",
        help="where to write the mask; further candidates get .2 and .3 before the suffix, further boxes .box2 and so "
        "on (default: %(default)s)",
    )
    predict.add_argument(
        "--overlay",
        type=Path,
        metavar="PNG",
        help="where to write the photo with the best masks and the prompt drawn over it",
    )
    add_url(predict, "--url")


def run(options: argparse.Namespace) -> None:
    """Saves the masks and prints their paths.

    Raises:
        InvalidInputError: the prompt is invalid; or an output has an unsupported suffix, or would overwrite the photo
            or the mask.
    """
    _check_outputs(options)
    points = [point[:2] for point in options.points or []]
    labels = [int(point[2]) for point in options.points or []]
    if points and len(options.boxes) > 1:
        raise InvalidInputError("--point works with one --box at most")
    boxes = options.boxes or [None]
    prompts = [Prompt.of(points, labels, box, multimask=options.multimask) for box in boxes]
    image = EncodedImage.of(options.photo)
    with Sam3Client(options.url) as client:
        predictions = client.segment_objects(image, prompts, logits=False)
    for number, prediction in enumerate(predictions, start=1):
        for rank, (png, score) in enumerate(zip(prediction.mask_pngs, prediction.scores, strict=True), start=1):
            print(f"{save_mask(png, _path(options.output, number, rank))}  score {score:.3f}")
    if options.overlay:
        picture = open_image(image.data)
        for prediction, box in zip(predictions, boxes, strict=True):
            picture = overlay(picture, prediction.masks[0], points, labels, box)
        picture.save(options.overlay)
        print(options.overlay.absolute())


def _path(output: Path, number: int, rank: int) -> Path:
    """Where the mask of the box of this number and the candidate of this rank is written, both from 1."""
    parts = [f".box{number}" * (number > 1), f".{rank}" * (rank > 1), output.suffix]
    return output.with_suffix("".join(parts))


def _check_outputs(options: argparse.Namespace) -> None:
    if options.output.suffix.lower() != ".png":
        raise InvalidInputError(f"-o {options.output}: masks are PNG files, so the name must end with .png")
    if options.overlay and options.overlay.suffix.lower() not in Image.registered_extensions():
        raise InvalidInputError(f"--overlay {options.overlay}: unknown image format; use .png or .jpg")
    named = {"-o": options.output, "--overlay": options.overlay}
    for flag, path in named.items():
        if path and path.resolve() == options.photo.resolve():
            raise InvalidInputError(f"{flag} {path} would overwrite the photo")
    if options.overlay and options.overlay.resolve() == options.output.resolve():
        raise InvalidInputError(f"--overlay {options.overlay} would overwrite the mask")


class _PointAction(argparse.Action):
    """Collects points as [x, y, label]. A --label applies to the --point before it."""

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
            parser.error("--label must follow the --point that it applies to")
        else:
            points = [*points[:-1], [*points[-1][:2], values]]
        setattr(namespace, self.dest, points)
