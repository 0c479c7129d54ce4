"""Held-out scenes, which are never trained on, and the measure of answers on them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam3_demo.pool import SCENE_SIZE
from sam3_demo.samples import MIN_AREA
from sam3_demo.scenes import Scene, make_scene


def held_out(style: str, count: int, targets: int = 1) -> Iterator[tuple[Scene, list[NDArray[np.bool_]]]]:
    """Yields held-out scenes, each with up to `targets` of its objects as masks bool [S, S]."""
    for seed in range(count):
        scene = make_scene(seed, SCENE_SIZE, style)
        areas = np.bincount(scene.objects.ravel()) / scene.objects.size
        objects = [number for number in np.flatnonzero(areas >= MIN_AREA) if number > scene.grounds]
        if not objects:
            continue
        picks = np.random.default_rng(seed).permutation(objects)[:targets]
        yield scene, [scene.objects == number for number in picks]


def overlap(answer: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, bool [H, W]."""
    return float((answer & target).sum() / max(1, (answer | target).sum()))


def box_of(target: NDArray[np.bool_]) -> torch.Tensor:
    """Corners fp32 [1, 2, 2] of the box around a mask, as fractions of the picture."""
    x, y, width, height = cv2.boundingRect(target.astype(np.uint8))
    size = np.array([target.shape[1], target.shape[0]])
    return torch.from_numpy((np.array([[[x, y], [x + width, y + height]]]) / size).astype(np.float32))
