"""Picture sheets of the network's answers on held-out scenes and on photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam3_demo.held_out import held_out, overlap
from sam3_demo.predictor import Predictor
from sam3_demo.prompts import Prompts, deepest_click
from sam3_demo.textures import bundled_file

_TILE = 300  # pixels along each side of a tile
_COLUMNS = 6
_GREEN, _RED, _YELLOW, _TINT = (60, 230, 60), (240, 50, 50), (255, 220, 0), np.array([30, 120, 255])

# Package and file of each photo.
_PHOTOS = {
    "coffee": ("skimage", "data/coffee.png"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
_Clicks = tuple[tuple[float, float, int], ...]
_Box = tuple[float, float, float, float]
# Photo, caption, and prompt: clicks (x, y, label) or a box (left, top, right, bottom), in fractions of the photo.
_ASKED: tuple[tuple[str, str, _Clicks | _Box], ...] = (
    ("coffee", "coffee", ((0.47, 0.4, 1),)),
    ("coffee", "saucer", ((0.2, 0.6, 1),)),
    ("coffee", "spoon", ((0.61, 0.72, 1),)),
    ("coffee", "cup, box", (0.28, 0.04, 0.7, 0.62)),
    ("coffee", "saucer and cup, box", (0.13, 0.04, 0.81, 0.98)),
    ("astronaut", "face", ((0.43, 0.22, 1),)),
    ("astronaut", "suit", ((0.22, 0.62, 1),)),
    ("astronaut", "patch", ((0.33, 0.75, 1),)),
    ("astronaut", "shuttle", ((0.77, 0.33, 1),)),
    ("astronaut", "helmet, box", (0.54, 0.67, 1.0, 1.0)),
    ("chelsea", "left eye", ((0.36, 0.39, 1),)),
    ("chelsea", "nose", ((0.57, 0.82, 1),)),
    ("chelsea", "right eye, box", (0.65, 0.36, 0.78, 0.56)),
    ("chelsea", "cat", ((0.5, 0.7, 1), (0.3, 0.2, 1), (0.92, 0.3, 0))),
    ("rocket", "rocket", ((0.5, 0.5, 1),)),
    ("rocket", "sky", ((0.78, 0.2, 1),)),
    ("rocket", "rocket, box", (0.47, 0.3, 0.54, 0.97)),
    ("china", "roof", ((0.33, 0.23, 1),)),
    ("china", "sky", ((0.7, 0.15, 1),)),
    ("china", "bush", ((0.7, 0.82, 1),)),
    ("china", "pagoda, box", (0.1, 0.06, 0.57, 0.97)),
    ("flower", "flower", ((0.5, 0.5, 1),)),
    ("flower", "background", ((0.15, 0.3, 1),)),
    ("flower", "flower, box", (0.26, 0.2, 0.7, 0.85)),
)


def scene_sheet(predictor: Predictor, style: str, path: Path) -> None:
    """Writes the single mask after one click and after three on 24 held-out scenes, two tiles per scene."""
    tiles = []
    for scene, targets in held_out(style, 24):
        target = targets[0]
        predictor.look_at(scene.image)
        coords, _ = deepest_click(np.zeros_like(target), target)
        prompts = Prompts.clicks(torch.from_numpy(coords)[None])
        for clicks in (1, 2, 3):
            mask = predictor.answer(prompts).masks[0]
            if clicks != 2:
                tiles.append(_tile(scene.image, mask, prompts, f"{clicks}: {overlap(mask, target):.2f}", target))
            coords, label = deepest_click(mask, target)
            prompts = prompts.add(torch.from_numpy(coords)[None], torch.tensor([label], dtype=torch.int32))
    _save(tiles, path)


def photo_sheet(predictor: Predictor, path: Path) -> None:
    """Writes the single mask for 24 clicks and boxes on photos."""
    tiles = []
    for name, wanted, asked in _ASKED:
        photo = read_photo(name)
        predictor.look_at(photo)
        if isinstance(asked[0], tuple):
            points = torch.tensor(asked)[None]
            prompts = Prompts(points[..., :2].contiguous(), points[..., 2].int())
        else:
            prompts = Prompts.boxes(torch.tensor(asked).reshape(1, 2, 2))
        answer = predictor.answer(prompts)
        tiles.append(_tile(photo, answer.masks[0], prompts, f"{name}: {wanted} ({answer.scores[0]:.2f})"))
    _save(tiles, path)


def read_photo(name: str) -> NDArray[np.uint8]:
    """One of the photos, uint8 [H, W, 3], RGB; they come with scikit-image and scikit-learn."""
    package, file = _PHOTOS[name]
    encoded = np.frombuffer(bundled_file(package, file), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1])


def _tile(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    prompts: Prompts,
    caption: str,
    target: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """A picture with the mask tinted and outlined, the true outline in yellow, clicks green or red, boxes green."""
    picture = cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask.astype(np.uint8), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST)
    picture[inside > 0] = (0.5 * picture[inside > 0] + 0.5 * _TINT).astype(np.uint8)
    outlines = [(inside, (255, 255, 255))]
    if target is not None:
        outlines.append((cv2.resize(target.astype(np.uint8), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST), _YELLOW))
    for shape, colour in outlines:
        contours, _ = cv2.findContours(shape, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 1)
    points = [(round(x * _TILE), round(y * _TILE)) for x, y in prompts.coords[0].tolist()]
    labels = prompts.labels[0].tolist()
    if labels[0] == 2:
        cv2.rectangle(picture, points[0], points[1], _GREEN, 2)
    for point, label in zip(points, labels, strict=True):
        if label < 2:
            cv2.circle(picture, point, 5, (0, 0, 0), -1)
            cv2.circle(picture, point, 4, _GREEN if label else _RED, -1)
    cv2.rectangle(picture, (0, 0), (_TILE, 16), (0, 0, 0), -1)
    cv2.putText(picture, caption, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _save(tiles: list[NDArray[np.uint8]], path: Path) -> None:
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())
