from importlib.util import find_spec

import numpy as np
import pytest
from sam3_demo.scenes import STYLES, make_scene

needs_textures = pytest.mark.skipif(find_spec("skimage") is None, reason="the natural textures are scikit-image's")


@pytest.mark.parametrize("style", [pytest.param("plain"), pytest.param("photo", marks=needs_textures)])
def test_a_seed_gives_the_same_scene_every_time(style: str) -> None:
    first, again, other = make_scene(7, 126, style), make_scene(7, 126, style), make_scene(8, 126, style)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.objects, again.objects)
    assert np.array_equal(first.parts, again.parts)
    assert not np.array_equal(first.image, other.image)


def test_plain_scenes_hold_objects_on_background_without_parts() -> None:
    for seed in range(10):
        scene = make_scene(seed, 126, "plain")
        assert scene.image.shape == (126, 126, 3)
        assert scene.image.dtype == np.uint8
        assert scene.grounds == 0
        assert not scene.parts.any()
        assert 1 <= len(np.unique(scene.objects[scene.objects > 0])) <= 8


@needs_textures
def test_a_part_lies_in_one_object() -> None:
    parts = 0
    for seed in range(20):
        scene = make_scene(seed, 126, "photo")
        for part in np.unique(scene.parts[scene.parts > 0]):
            owners = np.unique(scene.objects[scene.parts == part])
            assert len(owners) == 1
            assert owners[0] > scene.grounds
            parts += 1
    assert parts > 0


def test_an_object_differs_from_what_surrounds_it() -> None:
    differences = []
    for seed in range(10):
        scene = make_scene(seed, 126, "plain")
        picture = scene.image.astype(float)
        background = picture[scene.objects == 0].mean(axis=0)
        differences += [
            np.abs(picture[scene.objects == number].mean(axis=0) - background).max()
            for number in np.unique(scene.objects[scene.objects > 0])
        ]
    assert np.median(differences) > 30  # grey levels


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="cubist"):
        make_scene(0, 126, "cubist")
    assert set(STYLES) == {"plain", "photo"}
