"""Golden clicks: a picture, a few prompts and PyTorch's answers, kept beside the artifacts.

`sam3 doctor --golden` replays them on a server, to find an engine that is wrong on *that* machine before it gets
traffic. The export replays them through each format's image encoder and mask decoder, as its last check.

    golden/image.png      the picture, at the network's resolution, so that it is not resized
    golden/clicks.json    prompts in pixels, scores, and the bounds for each format's image encoder
    golden/logits.npz     LOW_RES_LOGITS of each click, fp32 [M, h, w], within +-32, best score first
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam3_export.architecture import Architecture
from sam3_export.candidates import in_order_of
from sam3_export.components import Case, References, image_encoder, mask_decoder
from sam3_export.components.click_prompts import (
    BACKGROUND,
    BOX_FIRST,
    BOX_SECOND,
    CANDIDATE_TOKENS,
    FOREGROUND,
    PADDING,
    SINGLE_TOKEN,
)
from sam3_export.components.pictures import DISC_CENTRE, RECTANGLE
from sam3_export.parity import ParityError, mask_iou
from sam3_export.spec import FP32_DRIFT, Agreement, Arrays, Drift

FOLDER = "golden"
# LOW_RES_LOGITS are clamped to +- this value (sam3_mask_postprocess).
_LOGIT_BOUND = 32.0
_LEFT, _TOP, _RIGHT, _BOTTOM = RECTANGLE
_RECTANGLE_CENTRE = ((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2)


@dataclass(frozen=True)
class Click:
    """A prompt on a picture of `pictures.pixels`; points and box are x, y as fractions of its side."""

    name: str
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    multimask: bool = False

    def inputs(self, architecture: Architecture) -> Arrays:
        """The decoder's inputs for one object of one image, except the features."""
        corners = [] if self.box is None else [self.box[:2], self.box[2:]]
        corner_labels = [] if self.box is None else [BOX_FIRST, BOX_SECOND]
        tokens = CANDIDATE_TOKENS if self.multimask else SINGLE_TOKEN
        side = architecture.low_res_size
        return {
            "POINT_COORDS": np.array([[[*corners, *self.points, (0, 0)]]], np.float32),
            "POINT_LABELS": np.array([[[*corner_labels, *self.labels, PADDING]]], np.int32),
            "MASK_INPUT": np.zeros((1, 1, side, side), np.float32),
            "HAS_MASK_INPUT": np.array([[False]]),
            "MASK_TOKENS": np.array([tokens], np.int32),
        }


CLICKS = (
    Click("a point on the disc", (DISC_CENTRE,), (FOREGROUND,)),
    Click("a box around the rectangle", box=RECTANGLE),
    Click(
        "a point on the rectangle and one beside it, candidates",
        (_RECTANGLE_CENTRE, DISC_CENTRE),
        (FOREGROUND, BACKGROUND),
        multimask=True,
    ),
)


@dataclass(frozen=True)
class Served:
    """A component in one format: runs it, and has the answers that its check gave, by case, and its bounds."""

    run: Callable[[Arrays], Arrays]
    answers: Mapping[str, Arrays]
    drift: Drift
    agreement: Agreement | None = None

    def answer(self, case: Case) -> Arrays:
        """Its answer to a parity case; an artifact that an earlier export checked computes it now."""
        return self.answers[case.name] if case.name in self.answers else self.run(case.inputs)


class GoldenClicks:
    """The clicks on one picture, with the answers of the PyTorch modules in fp32 on features rounded to fp16."""

    def __init__(
        self, architecture: Architecture, references: References, modules: Mapping[str, Callable[[Arrays], Arrays]]
    ) -> None:
        """
        Args:
            references: the parity cases, with PyTorch's answers; the image encoder's batch of one is the picture.
            modules: the PyTorch modules, by model name.
        """
        self._architecture = architecture
        self._picture = next(case for case in references[image_encoder.NAME] if case.batch == 1)
        self._decode = modules[mask_decoder.NAME]
        # Rounded as every format sends them: some weights amplify that rounding to several percent of the logits.
        self._features = {
            tensor.name: self._picture.expected[tensor.name].astype(tensor.dtype)
            for tensor in image_encoder.features(architecture)
        }
        self._answers = [self._answer(click, self._features, self._decode) for click in CLICKS]
        self._bounds: dict[str, Drift] = {}

    def check(self, file_name: str, served: Mapping[str, Served]) -> Drift:
        """Replays the clicks through the components of a format, and returns the largest drift from PyTorch's answers.

        If the format lacks a component, PyTorch's in fp32 takes its place; a server uses another format's.

        Args:
            file_name: of the format's artifacts. `sam3 doctor` looks up a server's bounds by its image encoder's file.
            served: by model name.

        Raises:
            ParityError: a drift beyond the bounds.
        """
        encoder, decoder = served.get(image_encoder.NAME), served.get(mask_decoder.NAME)
        features = self._features
        if encoder is not None:
            answer = encoder.answer(self._picture)
            features = {name: answer[name] for name in features}
        bounds = FP32_DRIFT if encoder is None else encoder.drift
        drifts = []
        for click, answer in zip(CLICKS, self._answers, strict=True):
            drift = _drift(self._answer(click, features, self._decode if decoder is None else decoder.run), answer)
            if not drift.within(bounds):
                raise ParityError(f"golden click, {click.name}: {drift}, but the bounds are {bounds}")
            drifts.append(drift)
        self._bounds[file_name] = bounds
        return Drift.worst(drifts)

    def _answer(self, click: Click, features: Arrays, decode: Callable[[Arrays], Arrays]) -> Arrays:
        return decode({**features, **click.inputs(self._architecture)})

    def write(self, folder: Path) -> None:
        """Writes the three files into a new folder."""
        folder.mkdir()
        size = self._architecture.image_size
        Image.fromarray(self._picture.inputs["PIXELS"][0]).save(folder / "image.png")
        entries = [
            {
                "name": click.name,
                "points": [[size * x, size * y] for x, y in click.points],
                "labels": click.labels,
                "box": click.box and [size * value for value in click.box],
                "multimask": click.multimask,
                "scores": answer["SCORES"][0, 0].tolist(),
            }
            for click, answer in zip(CLICKS, self._answers, strict=True)
        ]
        bounds = {name: asdict(drift) for name, drift in self._bounds.items()}
        (folder / "clicks.json").write_text(json.dumps({"clicks": entries, "bounds": bounds}, indent=2) + "\n")
        logits = {
            click.name: _clamped(answer["MASK_LOGITS"])[0, 0]
            for click, answer in zip(CLICKS, self._answers, strict=True)
        }
        np.savez_compressed(folder / "logits.npz", **logits)


def _drift(found: Arrays, expected: Arrays) -> Drift:
    found = in_order_of(expected, found)
    logits, wanted = _clamped(found["MASK_LOGITS"]), _clamped(expected["MASK_LOGITS"])
    return Drift(
        logits=_of_scale(logits, wanted),
        score=_of_scale(found["SCORES"], expected["SCORES"]),
        mask_iou=mask_iou(logits, wanted, wanted.shape[-1]),
    )


def _of_scale(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _clamped(logits: np.ndarray) -> np.ndarray:
    return logits.clip(-_LOGIT_BOUND, _LOGIT_BOUND)
