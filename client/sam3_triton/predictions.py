"""The answer to a prompt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from sam3_triton.errors import InvalidInputError
from sam3_triton.served_model import ServedModel


@dataclass(frozen=True)
class Prefetch:
    """An image that the server has encoded and cached.

    Attributes:
        cache_hit: whether the server already had the image's embedding.
        model: the model that encoded it.
    """

    cache_hit: bool
    model: ServedModel


@dataclass(frozen=True)
class Prediction:
    """One mask, or three candidates, the best score first.

    Attributes:
        mask_pngs: M masks as PNG files, 8-bit grey, 0 and 255, the size of the image.
        scores: float32 [M], the model's own estimate of each mask's IoU: 0..1 with SAM 3, any number with SAM 3.1.
        image_id: send it instead of the image next time.
        cache_hit: whether the server already had the image's embedding.
        model: the model that answered.
    """

    mask_pngs: tuple[bytes, ...]
    scores: np.ndarray
    image_id: str
    cache_hit: bool
    model: ServedModel
    _logits: np.ndarray | None

    @property
    def low_res_logits(self) -> np.ndarray:
        """float32 [M, h, w], before the threshold, within +-32. Pass one row as `mask_input` to refine that mask.

        Raises:
            InvalidInputError: they were not requested.
        """
        if self._logits is None:
            raise InvalidInputError("low_res_logits were not requested: use predict(..., logits=True)")
        return self._logits

    @cached_property
    def masks(self) -> np.ndarray:
        """bool [M, H, W], the size of the image."""
        return np.stack([np.asarray(Image.open(io.BytesIO(png))) > 0 for png in self.mask_pngs])
