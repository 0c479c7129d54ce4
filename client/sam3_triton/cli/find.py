"""`sam3 find`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sam3_triton.cli.arguments import add_url, numbers
from sam3_triton.client import Sam3Client
from sam3_triton.concepts import DEFAULT_THRESHOLD, ConceptPrompt
from sam3_triton.errors import InvalidInputError
from sam3_triton.images import EncodedImage
from sam3_triton.instance_overlay import overlay_instances
from sam3_triton.instances import Instances
from sam3_triton.masks import open_image, save_mask

_REPORT, _OVERLAY = "instances.json", "overlay.png"
_LONGEST_NAME = 40


def add_parser(commands: Any) -> None:
    """Adds the command and its arguments."""
    find = commands.add_parser(
        "find",
        help="find every instance of a concept in one photo",
        description="Find every instance of a concept in one photo, given by words, by example boxes, or by both. "
        "Needs a server whose model was exported with concept prompts.",
    )
    find.add_argument("photo", type=Path, metavar="PHOTO", help="an image file")
    find.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a noun phrase such as 'red car'; several are found apart"
    )
    box = numbers(4, "X0,Y0,X1,Y1")
    find.add_argument(
        "--box",
        dest="boxes",
        action=_BoxAction,
        default=[],
        type=box,
        metavar="X0,Y0,X1,Y1",
        help="a box around an example, in pixels; can be repeated",
    )
    find.add_argument(
        "--not-box",
        dest="boxes",
        action=_BoxAction,
        type=box,
        metavar="X0,Y0,X1,Y1",
        help="a box around something that is not meant; can be repeated",
    )
    find.add_argument(
        "--threshold",
        type=float,
        default=DEFAULT_THRESHOLD,
        metavar="P",
        help="instances with a score above it, 0 to 1 (default: %(default)s)",
    )
    find.add_argument(
        "--nms-iou",
        type=float,
        metavar="IOU",
        help="drop an instance if the IoU of its mask with a better one's is above this (default: keep all)",
    )
    find.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("found"),
        metavar="DIR",
        help=f"the folder for the masks and for {_REPORT} (default: %(default)s)",
    )
    find.add_argument(
        "--overlay", action="store_true", help=f"also write {_OVERLAY}: the photo with every instance drawn over it"
    )
    add_url(find, "--url")


def run(options: argparse.Namespace) -> None:
    """Saves the masks and the report, and prints a table.

    Raises:
        InvalidInputError: the prompt is invalid, or an output would overwrite the photo.
        ConceptsNotServedError: the server has no concept prompts.
    """
    prompts = ConceptPrompt.each(
        options.texts or [None],
        boxes=[box for box, _ in options.boxes],
        box_labels=[label for _, label in options.boxes],
        threshold=options.threshold,
        nms_iou=options.nms_iou,
    )
    image = EncodedImage.of(options.photo)
    with Sam3Client(options.url) as client:
        found = client.find_concepts(image, prompts)
    names = _names(options.texts or ["example"])
    masks = [
        [f"{name}.{rank + 1}.png" for rank in range(len(each.scores))] for name, each in zip(names, found, strict=True)
    ]
    _check_outputs(options, [*(name for own in masks for name in own), _REPORT, _OVERLAY])
    options.output.mkdir(parents=True, exist_ok=True)
    for each, own in zip(found, masks, strict=True):
        _print(each, options.threshold)
        for name, png, score, box in zip(own, each.mask_pngs, each.scores, each.boxes.tolist(), strict=True):
            corners = " ".join(f"{side:8.1f}" for side in box)
            print(f"  score {score:.3f}  box {corners}  {save_mask(png, options.output / name)}")
    report = options.output / _REPORT
    report.write_text(json.dumps(_described(options, found, masks), indent=2) + "\n")
    print(report.absolute())
    if options.overlay:
        picture = options.output / _OVERLAY
        overlay_instances(open_image(image.data), found).save(picture)
        print(picture.absolute())


def _print(found: Instances, threshold: float) -> None:
    count = len(found.scores)
    told = f"{count or 'no'} {'instance' if count == 1 else 'instances'} above {threshold:g}"
    cut = ", cut at 32 tokens" if found.truncated else ""
    print(f"{'like the boxes' if found.text is None else found.text}{cut}: {told}, presence {found.presence:.2f}")


def _described(options: argparse.Namespace, found: Sequence[Instances], masks: list[list[str]]) -> dict[str, Any]:
    """The report: as the gateway's answer, with the masks' file names."""
    width, height = found[0].image_size
    return {
        "photo": str(options.photo),
        "image_id": found[0].image_id,
        "width": width,
        "height": height,
        "model": asdict(found[0].model),
        "results": [
            {
                "text": each.text,
                "presence": each.presence,
                "truncated": each.truncated,
                "total": each.total,
                "instances": [
                    {"score": score, "box": box, "mask": name}
                    for name, score, box in zip(own, each.scores.tolist(), each.boxes.tolist(), strict=True)
                ],
            }
            for each, own in zip(found, masks, strict=True)
        ],
    }


def _names(texts: Sequence[str]) -> list[str]:
    """A part of a file name for each text, all different."""
    names: list[str] = []
    for text in texts:
        plain = re.sub(r"\W+", "-", text.lower()).strip("-")[:_LONGEST_NAME] or "text"
        others = names.count(plain)
        while (name := f"{plain}-{others + 1}" if others else plain) in names:
            others += 1
        names.append(name)
    return names


def _check_outputs(options: argparse.Namespace, names: Sequence[str]) -> None:
    for name in names:
        if (options.output / name).resolve() == options.photo.resolve():
            raise InvalidInputError(f"-o {options.output}: {name} would overwrite the photo; use another folder")


class _BoxAction(argparse.Action):
    """Collects boxes with their labels: 1 of --box, 0 of --not-box."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        label = 0 if option_string == "--not-box" else 1
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), (values, label)])
