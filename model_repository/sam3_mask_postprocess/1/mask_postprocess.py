"""Low-resolution logits to masks of the original size, as Meta's predictor makes them. Knows nothing of Triton."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from isal import isal_zlib

# Meta's predictor: holes of at most this many pixels of the low-resolution grid become foreground ...
MAX_HOLE_AREA = 256
# ... with this logit.
HOLE_LOGIT = 10.0
# Low-resolution logits are handed out within these bounds.
LOGIT_BOUND = 32.0
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# 8 bits, grey, deflate, the standard's five filters, not interlaced.
_PNG_KIND = bytes([8, 0, 0, 0, 0])
# Of ISA-L's levels 0 to 3: 0 makes masks half as large again, 2 is no smaller, 3 takes five times as long.
_DEFLATE_LEVEL = 1


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
    mask = (resized > 0).view(np.uint8)
    mask *= 255
    return mask


def to_png(mask: np.ndarray) -> bytes:
    """A mask uint8 [height, width] as a PNG of one 8-bit channel.

    The file is put together here, since ISA-L, which deflates a mask ten times as fast as zlib, knows no PNG.
    """
    height, width = mask.shape
    rows = np.zeros((height, 1 + width), np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = mask
    header = struct.pack(">2I", width, height) + _PNG_KIND
    pixels = isal_zlib.compress(rows, _DEFLATE_LEVEL)
    return _PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def clamp(logits: np.ndarray) -> np.ndarray:
    """Logits within the bounds that Meta's predictor returns them in."""
    return np.clip(logits, -LOGIT_BOUND, LOGIT_BOUND)
