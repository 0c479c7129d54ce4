"""Training scenes on disk, with the trunk's features of each: the trunk is frozen, so they are computed once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sam3_export import checkpoint
from sam3_export.components import image_encoder
from sam3_export.demo import CHECKPOINT

from sam3_demo.concepts.scenes import AXES, MOST_OBJECTS, make_shape_scene
from sam3_demo.pool import SCENE_SIZE
from sam3_demo.pool_files import Fields, Job, fill

_CHUNK = 40
_BATCH = 8  # pictures encoded at a time


@dataclass(frozen=True)
class Pool:
    """N scenes as memory-mapped arrays.

    features: fp16 [N, D, g, g], as the image encoder serves them.
    objects: uint8 [N, S, S]; attributes: int8 [N, 8, 4], -1 where there is no object; boxes: fp32 [N, 8, 4].
        See `ShapeScene`.
    """

    features: NDArray[np.float16]
    objects: NDArray[np.uint8]
    attributes: NDArray[np.int8]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)


def open_pool(directory: Path, count: int, first_seed: int, workers: int) -> Pool:
    """Opens a folder of `count` scenes, with seeds from `first_seed`, and makes those that are missing.

    Raises:
        ValueError: the folder was created for another number of scenes.
    """
    sizes = checkpoint.Architecture.from_json(CHECKPOINT.with_suffix(".json"))
    grid = sizes.grid_size
    shapes: Fields = {
        "features": (np.float16, (sizes.hidden_size, grid, grid)),
        "objects": (np.uint8, (SCENE_SIZE, SCENE_SIZE)),
        "attributes": (np.int8, (MOST_OBJECTS, len(AXES))),
        "boxes": (np.float32, (MOST_OBJECTS, 4)),
    }
    fill(directory, shapes, count, first_seed, workers, _CHUNK, _make_chunk)
    return Pool(*(np.load(directory / f"{field.name}.npy", mmap_mode="r") for field in fields(Pool)))


class Trunk:
    """The part of the image encoder that clicks and concepts share, with the weights of the click model."""

    def __init__(self) -> None:
        loaded = checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=False)
        self._backbone = loaded.model.vision_encoder.backbone
        self._grid = loaded.architecture.grid_size
        self._centre = image_encoder.centre_of(loaded)

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """The features [B, D, g, g] of pictures uint8 [B, S, S, 3] at the network's resolution."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        tokens = self._backbone((pixels - image_encoder.PIXEL_MEAN) / image_encoder.PIXEL_STD).last_hidden_state
        patches = tokens.transpose(1, 2).unflatten(2, (self._grid, self._grid)) - self._centre
        features: NDArray[np.float16] = patches.half().numpy()
        return features


def _make_chunk(job: Job) -> None:
    directory, start, first_seed = job
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    trunk = _trunk()
    arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r+") for name in (*_names(), "made")}
    for first in range(start, min(start + _CHUNK, len(arrays["made"])), _BATCH):
        indices = range(first, min(first + _BATCH, len(arrays["made"])))
        scenes = [make_shape_scene(first_seed + index, SCENE_SIZE) for index in indices]
        arrays["features"][first : first + len(scenes)] = trunk.features(np.stack([scene.image for scene in scenes]))
        for index, scene in zip(indices, scenes, strict=True):
            count = len(scene.attributes)
            arrays["objects"][index] = scene.objects
            arrays["attributes"][index] = -1
            arrays["attributes"][index, :count] = scene.attributes
            arrays["boxes"][index, :count] = scene.boxes
    arrays["made"][start] = 1


@cache
def _trunk() -> Trunk:
    return Trunk()


def _names() -> list[str]:
    return [field.name for field in fields(Pool)]
