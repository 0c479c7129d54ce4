"""The answer to a prompt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from sam3_triton.errors import InvalidInputError


@dataclass(frozen=True)
class Prediction:
    """One mask, or three candidates, the best score first.

    Attributes:
        mask_pngs: M masks as PNG files, 8-bit grey, 0 and 255, of the original size.
        scores: float32 [M], the model's own estimates of IoU.
        image_id: to send instead of the image next time.
        cache_hit: whether the image's embedding was cached.
    """

    mask_pngs: tuple[bytes, ...]
    scores: np.ndarray
    image_id: str
    cache_hit: bool
    _logits: np.ndarray | None

    @property
    def low_res_logits(self) -> np.ndarray:
        """float32 [M, h, w], unthresholded, within +-32; a row refines as `mask_input`.

        Raises:
            InvalidInputError: they were not asked for.
        """
        if self._logits is None:
            raise InvalidInputError("low_res_logits were not asked for: predict(..., logits=True)")
        return self._logits

    @cached_property
    def masks(self) -> np.ndarray:
        """bool [M, H, W], of the original size."""
        return np.stack([np.asarray(Image.open(io.BytesIO(png))) > 0 for png in self.mask_pngs])
