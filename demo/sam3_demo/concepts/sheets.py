"""A picture sheet of what the network finds on held-out scenes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_demo.concepts.finder import Finder, Found
from sam3_demo.concepts.held_out import queries
from sam3_demo.concepts.samples import Query
from sam3_demo.concepts.scenes import make_shape_scene
from sam3_demo.pool import SCENE_SIZE

_SCENES, _COLUMNS = 30, 6
_CAPTION = 18  # pixels
_GREEN, _RED, _WHITE = (60, 230, 60), (240, 50, 50), (255, 255, 255)
_TINT = np.array([255, 0, 255])


def concept_sheet(finder: Finder, path: Path) -> None:
    """Writes the answer to one query about each of 30 held-out scenes, the kinds of queries in turn."""
    tiles = []
    for seed in range(_SCENES):
        scene = make_shape_scene(seed, SCENE_SIZE)
        asked = queries(seed, scene)
        query = asked[seed % len(asked)][1]
        finder.look_at(scene.image)
        tiles.append(_tile(scene.image, query, finder.find(query)))
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


def _tile(image: NDArray[np.uint8], query: Query, found: Found) -> NDArray[np.uint8]:
    """A picture with every instance tinted and its score; example boxes green or red. The caption has the
    phrase, the presence and how many objects match."""
    picture, size = image.copy(), image.shape[0]
    for mask in found.masks:
        picture[mask] = (0.5 * picture[mask] + 0.5 * _TINT).astype(np.uint8)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _WHITE, 1)
    for box, label in zip(query.boxes, query.labels, strict=True):
        low, high = (tuple(int(size * side) for side in corner) for corner in (box[:2], box[2:]))
        cv2.rectangle(picture, low, high, _GREEN if label else _RED, 2)
    for box, score in zip(found.boxes, found.scores, strict=True):
        place = int(size * (box[0] + box[2]) / 2) - 12, int(size * (box[1] + box[3]) / 2) + 4
        _write(picture, f"{score:.2f}", place)
    caption = np.zeros((_CAPTION, size, 3), np.uint8)
    _write(caption, f"{query.phrase.text}: {found.presence:.2f}, {int(query.matching.sum())} match", (3, 13))
    return np.vstack([caption, picture])


def _write(picture: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    for colour, width in (((0, 0, 0), 3), (_WHITE, 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, width, cv2.LINE_AA)
