"""The answer to a concept prompt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from sam3_triton.errors import InvalidInputError
from sam3_triton.served_model import ServedModel


@dataclass(frozen=True)
class Instances:
    """The K instances of a concept in an image, the best score first. K may be 0.

    Attributes:
        text: the prompt's text; None if it had only boxes.
        presence: the model's own probability that the concept is in the image, 0..1.
        truncated: whether the text was too long and was cut at 32 tokens.
        total: how many instances were above the threshold, before `max_instances` and `nms_iou`.
        scores: float32 [K], 0..1: the probability of each instance times `presence`.
        boxes: float32 [K, 4], x0, y0, x1, y1 in pixels. They may overhang the image.
        mask_pngs: K masks as PNG files, 8-bit grey, 0 and 255, the size of the image; empty if not requested.
        image_size: width, height in pixels.
        image_id: send it instead of the image next time.
        cache_hit: whether the server already had the image's embedding.
        model: the model that answered.
    """

    text: str | None
    presence: float
    truncated: bool
    total: int
    scores: np.ndarray
    boxes: np.ndarray
    mask_pngs: tuple[bytes, ...]
    image_size: tuple[int, int]
    image_id: str
    cache_hit: bool
    model: ServedModel

    @cached_property
    def masks(self) -> np.ndarray:
        """bool [K, H, W], the size of the image.

        Raises:
            InvalidInputError: they were not requested.
        """
        if len(self.mask_pngs) < len(self.scores):
            raise InvalidInputError("masks were not requested: use find(..., masks=True)")
        width, height = self.image_size
        masks = np.zeros((len(self.mask_pngs), height, width), bool)
        for mask, png in zip(masks, self.mask_pngs, strict=True):
            mask[:] = np.asarray(Image.open(io.BytesIO(png))) > 0
        return masks
