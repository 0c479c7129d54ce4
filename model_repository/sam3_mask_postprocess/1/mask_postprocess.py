"""Low-resolution logits to masks of the original size, as Meta's predictor makes them. Knows nothing of Triton."""

from __future__ import annotations

import cv2
import numpy as np

# Meta's predictor: holes of at most this many pixels of the low-resolution grid become foreground ...
MAX_HOLE_AREA = 256
# ... with this logit.
HOLE_LOGIT = 10.0
# Low-resolution logits are handed out within these bounds.
LOGIT_BOUND = 32.0
# zlib level 1: masks are long runs of two values, and higher levels cost time for a few bytes.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]


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
    """Logits float32 [h, w] to a mask uint8 [height, width] of 0 and 255: holes, bilinear resize, threshold at 0."""
    height, width = original_size
    resized = cv2.resize(fill_holes(logits), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(resized > 0, np.uint8(255), np.uint8(0))


def to_png(mask: np.ndarray) -> bytes:
    """A mask uint8 [height, width] as a PNG of one 8-bit channel.

    Raises:
        RuntimeError: the encoder refused.
    """
    encoded, png = cv2.imencode(".png", mask, _PNG_OPTIONS)
    if not encoded:
        raise RuntimeError(f"a mask of shape {mask.shape} could not be encoded as PNG")
    return png.tobytes()


def clamp(logits: np.ndarray) -> np.ndarray:
    """Logits within the bounds that Meta's predictor returns them in."""
    return np.clip(logits, -LOGIT_BOUND, LOGIT_BOUND)
