"""How far fp16 and bf16 are from fp32: features, scores, and the masks of many clicks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sam3_export.candidates import in_order_of
from sam3_export.spec import Arrays
from torch import Tensor, nn

from benchmarks.gpu import networks
from benchmarks.gpu.context import Context, Figures

# Places of the clicks, along each axis, as fractions of the side.
_PLACES = (0.15, 0.35, 0.55, 0.75, 0.9)
_PICTURES = 4
# Differs from the seed of the pictures that an artifact is traced on.
_SEED = 2000
# Each answer: its logits and scores by name, as the parity gate compares them.
Answers = list[Arrays]
Points = list[tuple[float, float]]


def numerics(context: Context, save: Callable[[Figures], None]) -> None:
    """Compares each precision with fp32, without TF32, over clicks on a grid of places on several pictures.

    Stable masks are those that rounding did not exchange for another one: mask token 0 did not fall back to a
    candidate in either precision, and candidates kept their order.
    """
    network = context.network
    pictures = network.pictures(1 if context.small else _PICTURES, _SEED)
    places = _PLACES[:2] if context.small else _PLACES
    points = [(x, y) for x in places for y in places]
    figures: Figures = {"clicks": 2 * len(pictures) * len(points)}
    with torch.inference_mode():
        reference = _answer(context, network.encoder.module, network.decoder.module, pictures, points)
        for precision in context.precisions:
            context.attempt(figures, precision, _of_precision, context, precision, pictures, points, reference)
            save(figures)


def _of_precision(
    context: Context, precision: str, pictures: Tensor, points: Points, reference: tuple[list[Tensor], Answers, Answers]
) -> Figures:
    encoder = networks.eager(context.network.encoder, precision)
    decoder = networks.eager(context.network.decoder, precision)
    return _compared(reference, _answer(context, encoder, decoder, pictures, points))


def _answer(
    context: Context, encoder: nn.Module, decoder: nn.Module, pictures: Tensor, points: Points
) -> tuple[list[Tensor], Answers, Answers]:
    """Features of each picture, and the answers to all clicks with one mask and with candidates."""
    network = context.network
    features: list[Tensor] = []
    answers: tuple[Answers, Answers] = ([], [])
    for picture in pictures:
        found = encoder(picture.unsqueeze(0))
        features += found
        for multimask, kept in zip((False, True), answers, strict=True):
            for point in points:
                prompt = [one.to(context.device) for one in network.prompt([point], multimask)]
                logits, scores = decoder(*network.for_decoder(found), *prompt)
                kept.append({"MASK_LOGITS": logits.cpu().numpy(), "SCORES": scores.cpu().numpy()})
    return features, *answers


def _compared(
    reference: tuple[list[Tensor], Answers, Answers], found: tuple[list[Tensor], Answers, Answers]
) -> Figures:
    ious: list[float] = []
    stable: list[float] = []
    scores: list[float] = []
    for single, candidates, wanted, wanted_candidates in zip(
        found[1], found[2], reference[1], reference[2], strict=True
    ):
        ordered = in_order_of(wanted_candidates, candidates)
        pairs = [(single, wanted), (ordered, wanted_candidates)]
        keeps_token = not (_fell_back(single, candidates) or _fell_back(wanted, wanted_candidates))
        keeps_order = bool((ordered["SCORES"] == candidates["SCORES"]).all())
        for (mine, theirs), is_stable in zip(pairs, (keeps_token, keeps_order), strict=True):
            overlaps = [_iou(*masks) for masks in zip(_masks(mine), _masks(theirs), strict=True)]
            ious += overlaps
            stable += overlaps if is_stable else []
            scores.append(float(np.abs(mine["SCORES"] - theirs["SCORES"]).max()))
    return {
        "largest_feature_difference_of_scale": max(map(_of_scale, found[0], reference[0])),
        "largest_score_difference": max(scores),
        "masks": _summary(ious),
        "stable_masks": _summary(stable),
    }


def _fell_back(single: Arrays, candidates: Arrays) -> bool:
    """Whether the mask of token 0 was unstable, so that the best candidate took its place."""
    return bool((single["MASK_LOGITS"] == candidates["MASK_LOGITS"][:, :, :1]).all())


def _masks(answer: Arrays) -> Any:
    logits = answer["MASK_LOGITS"]
    return logits.reshape(-1, *logits.shape[-2:]) > 0


def _summary(ious: list[float]) -> Figures:
    if not ious:
        return {"count": 0}
    return {"count": len(ious), "mean_iou": float(np.mean(ious)), "lowest_iou": min(ious)}


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    either = np.logical_or(left, right).sum()
    return float(np.logical_and(left, right).sum() / either) if either else 1.0


def _of_scale(found: Tensor, wanted: Tensor) -> float:
    wanted = wanted.float()
    return float((found.float() - wanted).abs().max() / wanted.abs().max().clamp(min=1))
