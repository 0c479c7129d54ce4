"""Training batches from the pool: cropped, rotated, mirrored and recoloured pictures, with targets and prompts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sam3_demo.pool import Pool

Rng = np.random.Generator
MIN_AREA = 0.001  # smallest target, as a share of the picture
# How often parts, grounds and the background are chosen as targets, relative to whole objects.
_PART_WEIGHT, _GROUND_WEIGHT, _BACKGROUND_WEIGHT = 0.4, 0.3, 0.2
NO_BOX = -1.0  # background in `Batch.boxes`, which has no extent to learn


@dataclass(frozen=True)
class Batch:
    """One training step: B pictures with P prompts each; S: network resolution, h: low-resolution size.

    pixels: uint8 [B, S, S, 3], RGB.
    targets: fp32 [B, P, h, h], share of each low-resolution cell that the target covers.
    clicks: fp32 [B, P, 2], a point (x, y) in each target, as fractions of the picture.
    corners: fp32 [B, P, 2, 2], top left and bottom right corner of each target's box, as fractions.
    labels: int64 [B, h, h], a number for each object or part, equal only within one of them.
    boxes: fp32 [B, 4, h, h], left, top, right and bottom of the object that a cell is in, or `NO_BOX`.
    """

    pixels: Tensor
    targets: Tensor
    clicks: Tensor
    corners: Tensor
    labels: Tensor
    boxes: Tensor


class Samples(Dataset[Batch]):
    """Item i is the batch of training step i; it depends only on i, the pool and the arguments."""

    def __init__(self, pool: Pool, seed: int, steps: int, size: int, low_res: int, batch: int, prompts: int) -> None:
        self.pool, self.seed, self.steps = pool, seed, steps
        self.size, self.low_res, self.batch, self.prompts = size, low_res, batch, prompts

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, self.size, step])
        rows = [self._one(rng) for _ in range(self.batch)]
        return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def _one(self, rng: Rng) -> tuple[NDArray[np.generic], ...]:
        while True:
            index = int(rng.integers(len(self.pool)))
            image, objects, parts = _view(rng, self.pool, index, self.size)
            things = _things(objects, parts, int(self.pool.grounds[index]))
            if things:
                break
        weights = np.array([weight for _, weight in things])
        picks = rng.choice(len(things), self.prompts, p=weights / weights.sum())
        targets = [_target(rng, things[pick][0], self.low_res) for pick in picks]
        labels, boxes = _layout(objects, parts, self.low_res)
        return (recolour(rng, image), *(np.stack(column) for column in zip(*targets, strict=True)), labels, boxes)


def _view(rng: Rng, pool: Pool, index: int, size: int) -> tuple[NDArray[np.uint8], ...]:
    """A random crop of a scene, rotated and mirrored: image [size, size, 3], objects and parts [size, size]."""
    whole = pool.image.shape[1]
    side = whole if rng.random() < 0.35 else int(rng.uniform(0.8 * size, whole))
    top, left = rng.integers(0, whole - side + 1, 2)
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    views = []
    for array, interpolation in (
        (pool.image, cv2.INTER_AREA),
        *((a, cv2.INTER_NEAREST) for a in (pool.objects, pool.parts)),
    ):
        crop = np.rot90(array[index, top : top + side, left : left + side], turns)
        crop = np.ascontiguousarray(crop[:, ::-1] if mirror else crop)
        if side < size and interpolation == cv2.INTER_AREA:
            interpolation = cv2.INTER_LINEAR
        views.append(cv2.resize(crop, (size, size), interpolation=interpolation))
    return tuple(views)


def _things(
    objects: NDArray[np.uint8], parts: NDArray[np.uint8], grounds: int
) -> list[tuple[NDArray[np.bool_], float]]:
    """Possible targets in a picture: masks bool [S, S], each with its weight."""
    things = []
    for numbers, is_part in ((objects, False), (parts, True)):
        areas = np.bincount(numbers.ravel()) / numbers.size
        for number in np.flatnonzero(areas >= MIN_AREA):
            if is_part:
                weight = _PART_WEIGHT * (number > 0)
            else:
                weight = _BACKGROUND_WEIGHT if number == 0 else _GROUND_WEIGHT if number <= grounds else 1.0
            if weight:
                things.append((numbers == number, weight))
    return things


def _target(rng: Rng, mask: NDArray[np.bool_], low_res: int) -> tuple[NDArray[np.float32], ...]:
    """Coverage [h, h], click [2] and box corners [2, 2] of a mask."""
    size = mask.shape[0]
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    depth = mask[y : y + height, x : x + width]
    if rng.random() < 0.6:  # people click near the middle, but not always
        padded = np.pad(depth, 1).astype(np.uint8)
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
        depth = distance >= rng.uniform(0.3, 1.0) * distance.max()
    spots = np.flatnonzero(depth)
    row, column = divmod(int(spots[rng.integers(len(spots))]), width)
    click = np.array([x + column, y + row], np.float32) / size
    corners = np.array([[x, y], [x + width, y + height]], np.float32)
    spread = np.minimum(0.06 * np.array([width, height]), 0.02 * size)
    corners = ((corners + rng.normal(0, 1, (2, 2)) * spread) / size).clip(0, 1)
    coverage = cv2.resize(mask.astype(np.float32), (low_res, low_res), interpolation=cv2.INTER_AREA)
    return coverage, click, corners.astype(np.float32)


def _layout(
    objects: NDArray[np.uint8], parts: NDArray[np.uint8], low_res: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`labels` [h, h] and `boxes` [4, h, h] of a picture; see `Batch`."""
    coarse = cv2.resize(objects, (low_res, low_res), interpolation=cv2.INTER_NEAREST)
    fine = cv2.resize(parts, (low_res, low_res), interpolation=cv2.INTER_NEAREST)
    boxes = np.full((4, low_res, low_res), NO_BOX, np.float32)
    for number in np.unique(coarse)[np.unique(coarse) > 0]:
        x, y, width, height = cv2.boundingRect((objects == number).astype(np.uint8))
        extent = np.array([x, y, x + width, y + height], np.float32) / objects.shape[0]
        boxes[:, coarse == number] = extent[:, None]
    return coarse.astype(np.int64) * 256 + fine, boxes


def recolour(rng: Rng, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Changes brightness and colour at random, and now and then swaps channels, inverts or removes the colour."""
    table = np.arange(256, dtype=np.float32)[:, None] / 255
    table = table ** np.exp(rng.normal(0, 0.2)) * rng.uniform(0.7, 1.2) * np.exp(rng.normal(0, 0.08, 3))
    table = table + rng.normal(0, 0.06, 3)
    if rng.random() < 0.1:
        table = 1 - table
    if rng.random() < 0.3:
        image = image[:, :, rng.permutation(3)]
    if rng.random() < 0.08:
        image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    return cv2.LUT(np.ascontiguousarray(image), (table * 255).clip(0, 255).astype(np.uint8)[None])
