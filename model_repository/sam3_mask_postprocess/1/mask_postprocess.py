"""Turns low-resolution logits into masks of the original size, as Meta's predictor does. Independent of Triton."""

from __future__ import annotations

import cv2
import numpy as np
from binary_masks import to_binary

# Meta's predictor: holes of at most this many pixels of the low-resolution grid become foreground ...
MAX_HOLE_AREA = 256
# ... with this logit.
HOLE_LOGIT = 10.0
# Low-resolution logits are returned within +- this value.
LOGIT_BOUND = 32.0


def fill_holes(logits: np.ndarray) -> np.ndarray:
    """Logits float32 [h, w] with small background components (logit <= 0, 8-connected) made foreground."""
    background = (logits <= 0).astype(np.uint8)
    count, components, statistics, _ = cv2.connectedComponentsWithStats(background, connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] <= MAX_HOLE_AREA
    small[0] = False  # component 0 is the foreground
    if count == 1 or not small.any():
        return logits
    return np.where(small[components], np.float32(HOLE_LOGIT), logits)


def to_mask(logits: np.ndarray, original_size: tuple[int, int]) -> np.ndarray:
    """Turns logits float32 [h, w] into a mask uint8 [height, width] of 0 and 255.

    Fills small holes, resizes bilinearly to `original_size` (height, width), and thresholds at 0.
    """
    return to_binary(fill_holes(logits), original_size)


def clamp(logits: np.ndarray) -> np.ndarray:
    """Logits, clamped as Meta's predictor returns them."""
    return np.clip(logits, -LOGIT_BOUND, LOGIT_BOUND)
