"""Scenes of named shapes: what is said about an object is what is drawn."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from sam3_demo.concepts import drawing
from sam3_demo.concepts.scenes import AXES, ShapeScene, make_shape_scene

SIZE = 252
_HUES = {"red": 0, "orange": 28, "yellow": 56, "green": 120, "blue": 220, "purple": 282}


@pytest.fixture(scope="module")
def scenes() -> list[ShapeScene]:
    return [make_shape_scene(seed, SIZE) for seed in range(12)]


def test_a_seed_always_gives_the_same_scene(scenes: list[ShapeScene]) -> None:
    again = make_shape_scene(3, SIZE)
    assert np.array_equal(again.image, scenes[3].image)
    assert np.array_equal(again.attributes, scenes[3].attributes)
    assert not np.array_equal(make_shape_scene(13, SIZE).image, scenes[3].image)


def test_every_object_is_visible_and_its_box_fits(scenes: list[ShapeScene]) -> None:
    for scene in scenes:
        count = len(scene.attributes)
        assert 2 <= count <= 8
        assert set(np.unique(scene.objects)) == set(range(count + 1))
        for number, box in enumerate(scene.boxes, 1):
            y, x = np.nonzero(scene.objects == number)
            assert np.allclose(box * SIZE, [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=1e-3)


def test_objects_have_the_colours_that_are_named(scenes: list[ShapeScene]) -> None:
    checked = 0
    for scene in scenes:
        for number, values in enumerate(scene.attributes, 1):
            name, texture = AXES["colour"][values[1]], AXES["texture"][values[2]]
            if texture != "plain":
                continue
            red, green, blue = np.median(scene.image[scene.objects == number], axis=0) / 255
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            if name in _HUES:
                distance = abs((360 * hue - _HUES[name] + 180) % 360 - 180)
                assert distance < 30, (name, hue)
                assert saturation > 0.4
            else:
                assert (value > 0.8) == (name == "white")
            checked += 1
    assert checked > 15


def test_sizes_do_not_overlap(scenes: list[ShapeScene]) -> None:
    areas: dict[str, list[float]] = {name: [] for name in AXES["size"]}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for name, radius in (("small", 0.105), ("medium", 0.12), ("medium", 0.145), ("large", 0.17)):
            for draw in drawing.SHAPES.values():
                areas[name].append((draw(rng, SIZE, (126, 126), radius * SIZE) > 127).mean() ** 0.5)
    assert max(areas["small"]) < np.median(areas["medium"]) < max(areas["medium"]) < np.median(areas["large"])
