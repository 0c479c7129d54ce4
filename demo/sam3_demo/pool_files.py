"""Files of training scenes: one memory-mapped array for each field, filled by several processes, chunk by chunk."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

# Directory, first scene of the chunk, seed of the pool's first scene.
Job = tuple[Path, int, int]
Fields = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]
"""The dtype and the shape of each field of a scene."""


def fill(
    directory: Path, fields: Fields, count: int, first_seed: int, workers: int, chunk: int, make: Callable[[Job], None]
) -> None:
    """Creates the arrays of `count` scenes, and makes the chunks that are missing.

    Args:
        chunk: scenes in a chunk.
        make: makes a chunk in a process of its own; at the end it sets `made` of the chunk's first scene to 1.

    Raises:
        ValueError: the directory was created for another number of scenes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, (dtype, shape) in {**fields, "made": (np.uint8, ())}.items():
        if not (directory / f"{name}.npy").exists():
            open_memmap(directory / f"{name}.npy", "w+", dtype, (count, *shape)).flush()
    made = np.load(directory / "made.npy", mmap_mode="r")
    if len(made) != count:
        raise ValueError(f"{directory} holds {len(made)} scenes, not {count}; use another directory")
    jobs = [(directory, start, first_seed) for start in range(0, count, chunk) if not made[start]]
    if jobs:
        with multiprocessing.get_context("spawn").Pool(workers) as processes:
            for done, _ in enumerate(processes.imap_unordered(make, jobs), 1):
                print(f"\rscenes: {done * chunk} of {len(jobs) * chunk}", end="", flush=True)
        print()
