"""The embedding of one image. Independent of Triton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# The feature whose height and width are those of the decoder's logits.
_LOW_RES_FEATURE = "HIGH_RES_FEATURES_0"
# The feature that only concepts need; exports without them lack it.
BACKBONE_FEATURES = "BACKBONE_FEATURES"


@dataclass(frozen=True)
class ImageEmbedding:
    """Features of one image (fp16 arrays [1, C, h, w], by name) and its original size (int32 [height, width])."""

    features: dict[str, Any]
    original_size: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return sum(feature.nbytes for feature in self.features.values())

    @property
    def low_res_size(self) -> tuple[int, int]:
        """(height, width) of the decoder's logits, and so of a mask input."""
        return self.features[_LOW_RES_FEATURE].shape[-2:]
