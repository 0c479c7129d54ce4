"""Do the masks of many clicks agree with those of fp32?

Quantisation rounds coarsely: the largest difference of a feature says little about masks, and three golden clicks say
little about the worst of them. So an image encoder in 8 bits must also pass this check, with the user's own weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import product

import numpy as np

from sam3_export.architecture import Architecture
from sam3_export.candidates import in_order_of
from sam3_export.components import Case, References, image_encoder
from sam3_export.components.click_prompts import (
    BOX_FIRST,
    BOX_SECOND,
    CANDIDATE_TOKENS,
    FOREGROUND,
    PADDING,
    SINGLE_TOKEN,
)
from sam3_export.golden_clicks import Served
from sam3_export.parity import ParityError, ious
from sam3_export.spec import Agreement, Arrays

# The fewest masks by which an encoder is judged.
LEAST_MASKS = 18
# Points and boxes on each picture, as fractions of its side: 12 of each.
_PLACES = np.array(list(product((0.2, 0.4, 0.6, 0.8), (0.25, 0.5, 0.75))), np.float32)
_BOX_SIDES = np.array([(0.3, 0.2), (0.2, 0.3), (0.35, 0.35)], np.float32)


class MaskAgreement:
    """The masks of 24 clicks on each picture of the parity check, by PyTorch's mask decoder in fp32."""

    def __init__(self, architecture: Architecture, references: References, decode: Callable[[Arrays], Arrays]) -> None:
        """
        Args:
            references: the parity cases, with PyTorch's answers.
            decode: PyTorch's mask decoder.
        """
        self._architecture = architecture
        self._pictures = references[image_encoder.NAME]
        self._decode = decode

    def check(self, encoder: Served, bounds: Agreement) -> Agreement:
        """Compares the masks on an encoder's features with those on PyTorch's.

        The masks are those that a caller takes: the single mask, and the best of the candidates. Only stable ones
        count: no single mask was replaced by a candidate because it was unstable, and the candidates kept their places.
        Elsewhere rounding decides which of two different masks is returned.

        Raises:
            ParityError: the masks agree less than the bounds ask for, or too few are stable.
        """
        compared: list[float] = []
        for picture, (single, candidates) in zip(self._pictures, self._expected, strict=True):
            found_single, found_candidates = self._answers(picture, encoder.answer(picture))
            compared += _single_ious(single, candidates, found_single, found_candidates)
            compared += _candidate_ious(candidates, found_candidates)
        if len(compared) < LEAST_MASKS:
            raise ParityError(f"only {len(compared)} masks are stable enough to be compared, of {LEAST_MASKS} at least")
        found = Agreement(float(np.mean(compared)), min(compared), len(compared))
        if not found.within(bounds):
            raise ParityError(f"{found}, but the bounds are {bounds}")
        return found

    @cached_property
    def _expected(self) -> list[tuple[Arrays, Arrays]]:
        return [self._answers(picture, picture.expected) for picture in self._pictures]

    def _answers(self, picture: Case, features: Arrays) -> tuple[Arrays, Arrays]:
        """The single masks [B, P, 1, h, w] and the candidates [B, P, 3, h, w] of all prompts, with scores."""
        rounded = {
            tensor.name: features[tensor.name].astype(tensor.dtype)
            for tensor in image_encoder.features(self._architecture)
        }
        single, candidates = (
            [self._decode({**rounded, **prompts}) for prompts in self._prompts(picture.batch, tokens)]
            for tokens in (SINGLE_TOKEN, CANDIDATE_TOKENS)
        )
        return _joined(single), _joined(candidates)

    def _prompts(self, batch: int, tokens: tuple[int, ...]) -> Iterator[Arrays]:
        side = self._architecture.low_res_size
        corners = np.resize(_BOX_SIDES, _PLACES.shape) / 2
        for points, labels in (
            ([_PLACES], [FOREGROUND]),
            ([_PLACES - corners, _PLACES + corners], [BOX_FIRST, BOX_SECOND]),
        ):
            coords = np.stack([*points, np.zeros_like(_PLACES)], axis=1)
            yield {
                "POINT_COORDS": np.tile(coords, (batch, 1, 1, 1)),
                "POINT_LABELS": np.tile(np.array([*labels, PADDING], np.int32), (batch, len(coords), 1)),
                "MASK_INPUT": np.zeros((batch, 1, side, side), np.float32),
                "HAS_MASK_INPUT": np.zeros((batch, 1), bool),
                "MASK_TOKENS": np.tile(np.array(tokens, np.int32), (batch, 1)),
            }


def _joined(answers: list[Arrays]) -> Arrays:
    """The answers to several sets of prompts as one."""
    return {name: np.concatenate([answer[name] for answer in answers], axis=1) for name in ("MASK_LOGITS", "SCORES")}


def _single_ious(single: Arrays, candidates: Arrays, found_single: Arrays, found_candidates: Arrays) -> list[float]:
    kept = ~(_replaced(single, candidates) | _replaced(found_single, found_candidates))
    return _ious(single["MASK_LOGITS"][kept], found_single["MASK_LOGITS"][kept])


def _candidate_ious(candidates: Arrays, found: Arrays) -> list[float]:
    """Of the best candidates, where all are in the same order in both."""
    ordered = in_order_of(candidates, found)["MASK_LOGITS"]
    kept = (ordered == found["MASK_LOGITS"]).all(axis=(2, 3, 4))
    return _ious(candidates["MASK_LOGITS"][kept][:, :1], ordered[kept][:, :1])


def _replaced(single: Arrays, candidates: Arrays) -> np.ndarray:
    """Which single masks, bool [B, P], are candidates."""
    return (single["MASK_LOGITS"] == candidates["MASK_LOGITS"]).all(axis=(3, 4)).any(axis=2)


def _ious(expected: np.ndarray, found: np.ndarray) -> list[float]:
    values: list[float] = ious(expected > 0, found > 0).ravel().tolist()
    return values
