import numpy as np
import pytest
from sam3_demo.pool import SCENE_SIZE, Pool
from sam3_demo.samples import NO_BOX, Batch, Samples
from sam3_demo.scenes import make_scene


@pytest.fixture(scope="module")
def batch() -> Batch:
    scenes = [make_scene(seed, SCENE_SIZE, "plain") for seed in range(4)]
    pool = Pool(*(np.stack([getattr(s, name) for s in scenes]) for name in ("image", "objects", "parts", "grounds")))
    return Samples(pool, seed=0, steps=1, size=126, low_res=36, batch=8, prompts=4)[0]


def test_shapes(batch: Batch) -> None:
    assert batch.pixels.shape == (8, 126, 126, 3)
    assert batch.targets.shape == (8, 4, 36, 36)
    assert batch.clicks.shape == (8, 4, 2)
    assert batch.corners.shape == (8, 4, 2, 2)
    assert batch.labels.shape == (8, 36, 36)
    assert batch.boxes.shape == (8, 4, 36, 36)


def test_first_clicks_fall_on_their_targets(batch: Batch) -> None:
    cells = (batch.clicks * 36).long()
    for target, cell in zip(batch.targets.flatten(0, 1), cells.flatten(0, 1), strict=True):
        assert target[cell[1], cell[0]] > 0


def test_boxes_enclose_their_targets_but_for_a_little_noise(batch: Batch) -> None:
    for target, (low, high) in zip(batch.targets.flatten(0, 1), batch.corners.flatten(0, 1), strict=True):
        rows, columns = (target > 0).nonzero(as_tuple=True)
        assert abs(float(low[0]) * 36 - float(columns.min())) < 4
        assert abs(float(high[1]) * 36 - float(rows.max() + 1)) < 4


def test_only_objects_have_an_extent(batch: Batch) -> None:
    background = batch.labels == 0
    assert background.any()
    assert (batch.boxes.transpose(0, 1)[:, background] == NO_BOX).all()
    assert (batch.boxes.transpose(0, 1)[:, ~background] >= 0).all()
