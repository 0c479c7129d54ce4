"""Simulates a camera: light, blur, noise and JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_demo.textures import Colours, noise

Rng = np.random.Generator


def develop(rng: Rng, image: Colours, photo: bool) -> NDArray[np.uint8]:
    """Photographs the scene `image` [S, S, 3] as uint8 RGB; `photo` adds uneven light, a colour cast and JPEG."""
    size = image.shape[0]
    if photo:
        if rng.random() < 0.5:  # uneven light: lamps, large soft shadows
            image = image * (1 + rng.uniform(0.1, 0.35) * noise(rng, size, size, int(rng.integers(1, 4))))[..., None]
        image = image * (rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.05, 3))).astype(np.float32)
    image = image.clip(0, 255).astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), size / 252 * rng.uniform(0.3, 1.8))
    if rng.random() < 0.6:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.gamma(1.5, 4))
    pixels = image.clip(0, 255).astype(np.uint8)
    if photo and rng.random() < 0.6:
        quality = int(rng.integers(25, 95))
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return pixels
