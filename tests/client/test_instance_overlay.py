from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sam3_triton import Instances, ServedModel, overlay_instances

SIZE = (300, 200)


def instances(corners: list[tuple[int, int]], side: int = 40) -> Instances:
    """Squares with these upper left corners, best first."""
    pngs = []
    for x, y in corners:
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[max(0, y) : y + side, max(0, x) : x + side] = 255
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, "PNG")
        pngs.append(buffer.getvalue())
    boxes = np.array([[x, y, x + side, y + side] for x, y in corners], np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.6, len(corners), dtype=np.float32)
    model = ServedModel("SAM 3", "0" * 64)
    return Instances("cup", 1.0, False, len(corners), scores, boxes, tuple(pngs), SIZE, "id", True, model)


def drawn(*found: Instances) -> np.ndarray:
    return np.asarray(overlay_instances(Image.new("RGB", SIZE, (90, 90, 90)), found)).astype(int)


def test_every_instance_has_a_colour_of_its_own() -> None:
    corners = [(10, 50), (60, 50), (110, 50), (160, 50), (210, 50)]
    picture = drawn(instances(corners[:3]), instances(corners[3:]))
    colours = [picture[y + 20, x + 20] for x, y in corners]
    for index, colour in enumerate(colours):
        assert np.abs(colour - 90).max() > 30
        assert all(np.abs(colour - other).max() > 30 for other in colours[index + 1 :])
    assert (picture[150:] == 90).all()


def test_the_box_and_the_label_are_drawn_outside_the_mask() -> None:
    one = instances([(100, 100)])
    one.boxes[0] = [80, 80, 200, 180]
    picture = drawn(one)
    assert np.abs(picture[180, 140] - 90).max() > 30, "the lower edge"
    assert np.abs(picture[130, 200] - 90).max() > 30, "the right edge"
    assert (picture[64:80, 80:100] < 80).all(axis=-1).any(), "dark letters above the box"


@pytest.mark.parametrize("text", ["striped circle", None])
def test_the_label_has_the_name(text: str | None) -> None:
    one = instances([(100, 100)])
    short, long = drawn(one), drawn(replace(one, text=text))
    label = np.s_[85:100, 145:]  # right of where "cup 0.90" ends
    assert (short[label] == 90).all()
    assert (long[label] != 90).any()


def test_the_best_instance_is_on_top() -> None:
    one = drawn(instances([(100, 100)]))[120, 120]
    both = drawn(instances([(100, 100), (105, 105)]))[120, 120]
    worst_alone = drawn(instances([(0, 0), (105, 105)]))[120, 120]
    assert np.abs(both - one).max() < np.abs(both - worst_alone).max()


@pytest.mark.parametrize("corner", [(-20, -20), (280, 180), (290, -30), (-30, 190)])
def test_an_instance_may_overhang_the_picture(corner: tuple[int, int]) -> None:
    assert (drawn(instances([corner])) != 90).any()


def test_no_instance_leaves_the_picture_as_it_is() -> None:
    assert (drawn(instances([])) == 90).all()
    assert (drawn() == 90).all()


def test_a_mask_may_be_empty() -> None:
    assert (drawn(instances([(100, 100)], side=0))[120:] == 90).all()
