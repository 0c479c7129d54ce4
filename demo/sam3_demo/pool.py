"""Scenes stored on disk, so that training does not wait for the generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_demo.pool_files import Fields, Job, fill
from sam3_demo.scenes import STYLES, make_scene

SCENE_SIZE = 252  # pixels along each side of a stored scene
_CHUNK = 50


@dataclass(frozen=True)
class Pool:
    """Scenes as memory-mapped uint8 arrays: image [N, S, S, 3], objects and parts [N, S, S], grounds [N]."""

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    grounds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.image)


_SHAPES = {
    "image": (SCENE_SIZE, SCENE_SIZE, 3),
    "objects": (SCENE_SIZE, SCENE_SIZE),
    "parts": (SCENE_SIZE, SCENE_SIZE),
    "grounds": (),
}


def open_pool(directory: Path, count: int, first_seed: int, workers: int) -> Pool:
    """Opens a folder of `count` scenes and generates those that are missing.

    Their seeds start at `first_seed`; plain and photo-like scenes alternate.

    Raises:
        ValueError: the folder was created for another number of scenes.
    """
    shapes: Fields = {name: (np.uint8, shape) for name, shape in _SHAPES.items()}
    fill(directory, shapes, count, first_seed, workers, _CHUNK, _make_chunk)
    return Pool(*(np.load(directory / f"{name}.npy", mmap_mode="r") for name in _SHAPES))


def _make_chunk(job: Job) -> None:
    directory, start, first_seed = job
    cv2.setNumThreads(1)
    arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r+") for name in (*_SHAPES, "made")}
    for index in range(start, min(start + _CHUNK, len(arrays["made"]))):
        scene = make_scene(first_seed + index, SCENE_SIZE, STYLES[index % len(STYLES)])
        for name in _SHAPES:
            arrays[name][index] = getattr(scene, name)
    arrays["made"][start] = 1
