"""Finds concepts in a picture with the modules that are exported and served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sam3_export.checkpoint import Checkpoint
from sam3_export.components.concept_prompts import PADDING
from sam3_export.components.detector_modules import ConceptDetector
from sam3_export.components.image_encoder import ImageEncoder, centre_of
from sam3_export.components.text_encoder import TextEncoder
from torch.nn import functional as F

from sam3_demo.concepts.samples import Query, slots

THRESHOLD = 0.5  # the server's default


@dataclass(frozen=True)
class Found:
    """The instances above the threshold, best first: masks bool [K, S, S], scores fp32 [K], boxes fp32 [K, 4].

    Boxes are x0 y0 x1 y1 as fractions of the picture; presence is a probability.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    presence: float


class Finder:
    """Answers queries about one picture at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """
        Args:
            checkpoint: with concepts.
        """
        assert checkpoint.concepts is not None
        assert checkpoint.architecture.concepts is not None
        centre = centre_of(checkpoint)
        self.encoder = ImageEncoder(checkpoint.model, centre).eval()
        self.text = TextEncoder(checkpoint.concepts).eval()
        self.detector = ConceptDetector(checkpoint.concepts, checkpoint.architecture.grid_size, centre).eval()
        self.ranks = torch.arange(checkpoint.architecture.concepts.num_queries)[None]

    @torch.inference_mode()
    def look_at(self, image: NDArray[np.uint8]) -> None:
        """Encodes a picture, uint8 [S, S, 3], RGB, at the network's resolution."""
        self.size = image.shape[0]
        self.features = self.encoder(torch.from_numpy(image)[None])[-1].half()

    @torch.inference_mode()
    def find(self, query: Query) -> Found:
        """The instances of a concept."""
        tokens = torch.from_numpy(query.phrase.tokens())[None]
        coords, labels = (torch.from_numpy(array)[None] for array in slots(query))
        (words,) = self.text(tokens)
        scores, boxes, logits, presence = self.detector(
            self.features, words, tokens != PADDING, coords, labels, self.ranks
        )
        count = int((scores[0] > THRESHOLD).sum())
        shown = logits[:, : max(1, count)]  # interpolation needs one
        large = F.interpolate(shown, (self.size, self.size), mode="bilinear", align_corners=False)
        centres, halves = boxes[0, :count, :2], boxes[0, :count, 2:] / 2
        return Found(
            (large[0, :count] > 0).numpy(),
            scores[0, :count].numpy(),
            torch.cat([centres - halves, centres + halves], dim=1).numpy(),
            float(presence),
        )
