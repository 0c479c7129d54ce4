"""Measures how well a checkpoint finds things on held-out scenes; writes concept_report.json and .md beside it."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sam3_export import checkpoint
from sam3_export.demo import CHECKPOINT
from sam3_triton import Sam3Client

from sam3_demo.concepts import report
from sam3_demo.concepts.finder import THRESHOLD, Finder, Found
from sam3_demo.concepts.held_out import KINDS, queries, swap
from sam3_demo.concepts.measures import Tally, pairs
from sam3_demo.concepts.samples import Query
from sam3_demo.concepts.scenes import ShapeScene, make_shape_scene
from sam3_demo.concepts.served import ServedFinder
from sam3_demo.concepts.sheets import concept_sheet
from sam3_demo.pool import SCENE_SIZE

SCENES = 300


class Finds(Protocol):
    """What is measured: `Finder`, or `ServedFinder`."""

    def look_at(self, image: NDArray[np.uint8]) -> None:
        """Takes a picture for the queries that follow."""

    def find(self, query: Query) -> Found:
        """The instances of a concept."""


def measure(finder: Finds, count: int = SCENES) -> dict[str, float]:
    """Figures over the first `count` held-out scenes; see `report.MEANINGS`."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    presence: dict[bool, list[bool]] = {True: [], False: []}
    changed = 0
    for seed in range(count):
        scene = make_shape_scene(seed, SCENE_SIZE)
        finder.look_at(scene.image)
        for kind, query in queries(seed, scene):
            found, targets = finder.find(query), _targets(scene, query)
            tallies[kind].add(len(pairs(found.masks, targets)), len(found.masks), len(targets))
            if kind != "boxes":
                present = bool(query.matching.any())
                presence[present].append((found.presence > THRESHOLD) == present)
        swapped = swap(seed, scene.attributes)
        if swapped is not None:
            right, either = _changes(finder, scene, swapped)
            changed += right
            tallies["swap"].add(right, either, 0)
        print(f"\r{seed + 1} of {count} scenes", end="", flush=True)
    print()
    figures = {f"f1_{kind}": tallies[kind].f1 for kind in (*KINDS, "boxes")}
    figures["presence"] = float(np.mean([np.mean(right) for right in presence.values()]))
    figures["swap"] = changed / max(1, tallies["swap"].found)
    return figures


def _targets(scene: ShapeScene, query: Query) -> NDArray[np.bool_]:
    numbers = np.flatnonzero(query.matching) + 1
    return scene.objects[None] == numbers[:, None, None]


def _changes(finder: Finds, scene: ShapeScene, queries: tuple[Query, Query]) -> tuple[int, int]:
    """Of the objects that one phrase or the other finds and should: those that only their own finds, and all."""
    both = np.concatenate([_targets(scene, query) for query in queries])
    own = np.repeat([0, 1], [int(query.matching.sum()) for query in queries])
    found = np.zeros((2, len(both)), bool)
    for number, query in enumerate(queries):
        for _, target in pairs(finder.find(query).masks, both):
            found[number, target] = True
    right = found[own, np.arange(len(both))] & ~found[1 - own, np.arange(len(both))]
    return int(right.sum()), int(found.any(axis=0).sum())


def evaluate(path: Path, training: dict[str, object] | None, sheets: Path, count: int = SCENES) -> None:
    """Measures the checkpoint at `path` and writes its report and a picture sheet.

    Args:
        training: how it was trained, for the report; None keeps the entry of the existing report.
        sheets: directory for the picture sheet.
    """
    finder = Finder(checkpoint.load(str(path), path.with_suffix(".json"), concepts=True))
    report.write(path.with_name("concept_report.json"), training, count, measure(finder, count))
    sheets.mkdir(parents=True, exist_ok=True)
    concept_sheet(finder, sheets / "concepts.jpg")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m sam3_demo.concepts.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="checkpoint with concepts to measure")
    parser.add_argument(
        "--sheets", type=Path, default=Path("out/sheets"), help="directory for the picture sheet (default %(default)s)"
    )
    parser.add_argument("--scenes", type=int, default=SCENES, help="held-out scenes (default %(default)s)")
    parser.add_argument(
        "--url", help="instead, measure the server at this gRPC address, print the figures and write nothing"
    )
    options = parser.parse_args(arguments)
    if options.url is None:
        evaluate(options.checkpoint, None, options.sheets, options.scenes)
        return
    with Sam3Client(options.url) as client:
        for name, figure in measure(ServedFinder(client), options.scenes).items():
            print(f"{figure:.3f}  {report.MEANINGS[name]}")


if __name__ == "__main__":
    main()
