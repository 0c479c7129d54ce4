"""Seeded scenes of overlapping objects, with the visible pixels of every object and of its parts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam3_demo import shapes, textures
from sam3_demo.camera import develop

Rng = np.random.Generator
STYLES = ("plain", "photo")


@dataclass(frozen=True)
class Scene:
    """A picture and its contents; all arrays are [S, S] or [S, S, 3].

    `image` is uint8 RGB. `objects` gives each pixel the number of the object that it shows, from 1 (0: background).
    Numbers up to `grounds` are regions of the background that a person might click (ground, sky, table). `parts` gives
    each pixel the number of its part, from 1 over the whole scene (0: none); a part lies in one object.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    grounds: int


def make_scene(seed: int, size: int, style: str) -> Scene:
    """The scene of a seed and a style (`plain` or `photo`), `size` pixels along each side; the same on every call."""
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}, not {style!r}")
    rng = np.random.default_rng([seed, STYLES.index(style)])
    canvas = _Canvas(rng, size, photo=style == "photo")
    canvas.add_grounds()
    count = int(rng.integers(3, 9)) if style == "plain" else int(rng.integers(2, 13))
    largest = rng.uniform(0.2, 0.42) if style == "photo" else 0.3
    for _ in range(count):
        canvas.add_object(size * np.exp(rng.uniform(np.log(0.06), np.log(largest))))
    return Scene(develop(rng, canvas.image, canvas.photo), canvas.objects, canvas.parts, canvas.grounds)


class _Canvas:
    """A scene being painted, from back to front."""

    def __init__(self, rng: Rng, size: int, photo: bool) -> None:
        self.rng = rng
        self.size = size
        self.photo = photo
        self.image = textures.surface(rng, size, size, self._texture_kinds, photo)
        self.objects = np.zeros((size, size), np.uint8)
        self.parts = np.zeros((size, size), np.uint8)
        self.grounds = 0
        self.count = 0
        self.part_count = 0
        angle = rng.uniform(0, 2 * np.pi)
        self.light = np.array([np.cos(angle), np.sin(angle)], np.float32)  # towards the light, in the image plane

    @property
    def _texture_kinds(self) -> tuple[str, ...]:
        return textures.PHOTO_KINDS if self.photo else textures.PLAIN_KINDS

    def add_grounds(self) -> None:
        """Splits the background of most photo-like scenes into two or three regions by nearly straight lines."""
        if not self.photo or self.rng.random() < 0.4:
            return
        self.objects[:] = self.grounds = self.count = 1
        for _ in range(int(self.rng.integers(1, 3))):
            x = np.linspace(-0.1, 1.1, 12) * self.size
            y = self.size * (self.rng.uniform(0.2, 0.8) + self.rng.normal(0, 0.1) * (x / self.size - 0.5))
            y = y + textures.noise(self.rng, 1, 12, 5)[0] * self.size * self.rng.choice([0, 0, 0.04])
            line = np.stack([x, y], axis=1)
            below = np.array([[1.1, 1.2], [-0.1, 1.2]]) * self.size
            region = shapes.fill(self.size, np.concatenate([line, below]))
            if self.rng.random() < 0.15:
                region = np.ascontiguousarray(region.T)
            self._paint(region, self._surface_of(region))
            self.count += 1
            self.grounds += 1
            self.objects[region > 127] = self.count

    def add_object(self, radius: float) -> None:
        """Puts an object of about this radius (pixels) in front of everything, perhaps with parts."""
        kinds = shapes.PHOTO_KINDS if self.photo else shapes.PLAIN_KINDS
        mask = shapes.outline(self.rng, self.size, kinds, radius)
        if not (mask > 127).any():
            return
        if self.photo:
            self._cast_shadow(mask, radius)
        self._paint(mask, self._surface_of(mask))
        self.count += 1
        inside = mask > 127
        self.objects[inside] = self.count
        self.parts[inside] = 0
        if self.photo and self.rng.random() < 0.45:
            for _ in range(int(self.rng.integers(1, 5))):
                self._add_part(mask, radius)
        if self.photo and self.rng.random() < 0.6:
            self._shade(mask)

    def _add_part(self, whole: shapes.Mask, radius: float) -> None:
        x, y, width, height = cv2.boundingRect(whole)
        kind = shapes.KINDS[shapes.PHOTO_KINDS[self.rng.integers(len(shapes.PHOTO_KINDS))]]
        centre = self.rng.uniform((x, y), (x + width, y + height))
        mask = np.minimum(kind(self.rng, self.size, centre, radius * self.rng.uniform(0.15, 0.55)), whole)
        if (mask > 127).any():
            self._paint(mask, self._surface_of(mask))
            self.part_count += 1
            self.parts[mask > 127] = self.part_count

    def _surface_of(self, mask: shapes.Mask) -> tuple[tuple[slice, slice], textures.Colours]:
        x, y, width, height = cv2.boundingRect(mask)
        window = (slice(y, y + height), slice(x, x + width))
        return window, textures.surface(self.rng, height, width, self._texture_kinds, self.photo)

    def _paint(self, mask: shapes.Mask, surface: tuple[tuple[slice, slice], textures.Colours]) -> None:
        window, colours = surface
        alpha = mask[window].astype(np.float32)[..., None] / 255
        self.image[window] += alpha * (colours - self.image[window])

    def _cast_shadow(self, mask: shapes.Mask, radius: float) -> None:
        if self.rng.random() < 0.45:
            return
        small = self.size // 4  # a shadow is soft, so a quarter of the resolution is enough
        move = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        move[:, 2] = -self.light * radius / 4 * self.rng.uniform(0.05, 0.4)
        shadow = cv2.warpAffine(cv2.resize(mask, (small, small), interpolation=cv2.INTER_AREA), move, (small, small))
        shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, radius / 4 * self.rng.uniform(0.05, 0.4)))
        shadow = cv2.resize(shadow.astype(np.float32), (self.size, self.size))
        self.image *= (1 - shadow * np.float32(self.rng.uniform(0.2, 0.7) / 255))[..., None]

    def _shade(self, mask: shapes.Mask) -> None:
        """Lights the object as if it bulged: brighter towards the light, darker away from it, perhaps glossy."""
        x, y, width, height = cv2.boundingRect(mask)
        window = (slice(y, y + height), slice(x, x + width))
        bulge = cv2.distanceTransform((np.pad(mask[window], 1) > 127).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        deepest = float(bulge.max())
        bulge = cv2.GaussianBlur(np.sqrt(bulge * (2 * deepest - bulge)), (0, 0), max(1.0, deepest * 0.2))
        slope = cv2.Sobel(bulge, cv2.CV_32F, 1, 0) * self.light[0] + cv2.Sobel(bulge, cv2.CV_32F, 0, 1) * self.light[1]
        bright = -np.tanh(slope / 8) * self.rng.uniform(0.15, 0.55)
        alpha = mask[window].astype(np.float32) / 255
        self.image[window] *= (1 + alpha * bright)[..., None]
        if self.rng.random() < 0.3:
            gloss = (bright / (np.abs(bright).max() + 1e-6)).clip(0) ** 6
            self.image[window] += (alpha * gloss * self.rng.uniform(40, 160))[..., None]
