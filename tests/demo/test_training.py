from pathlib import Path

import numpy as np
import pytest
import torch
from sam3_demo.optimiser import orthogonal
from sam3_demo.pool import SCENE_SIZE, Pool
from sam3_demo.scenes import make_scene
from sam3_demo.storage import load_state, save_state, write_checkpoint
from sam3_demo.train import Stage, Trainer
from sam3_export.checkpoint import load


@pytest.fixture(scope="module")
def pool() -> Pool:
    scenes = [make_scene(seed, SCENE_SIZE, "plain") for seed in range(2)]
    return Pool(*(np.stack([getattr(s, name) for s in scenes]) for name in ("image", "objects", "parts", "grounds")))


def test_training_goes_on_where_it_stopped(pool: Pool, tmp_path: Path) -> None:
    stages = [Stage(size=126, steps=1, batch=1, prompts=2), Stage(size=252, steps=1, batch=1, prompts=2)]
    through = Trainer(stages, seed=3)
    through.run(pool, tmp_path)

    stopped = Trainer(stages, seed=3)
    stopped._run_stage(stages[0], 0, pool, tmp_path)
    save_state(stopped.state(), tmp_path)
    resumed = Trainer(stages, seed=4)  # other first weights, which the state replaces
    state = load_state(tmp_path)
    assert state is not None
    resumed.resume(state)
    assert resumed.step == 1
    resumed.seed = 3
    resumed.run(pool, tmp_path)

    assert resumed.step == through.step == 2
    for name, expected in through.model.state_dict().items():
        # Momenta are kept in half precision, so the second update differs in its last digits.
        assert torch.allclose(resumed.model.state_dict()[name], expected, atol=1e-5), name


def test_the_written_checkpoint_loads_with_the_same_weights(tmp_path: Path) -> None:
    trainer = Trainer([Stage(size=126, steps=1, batch=1, prompts=1)], seed=0)
    write_checkpoint(trainer.mean, tmp_path / "demo.pt")
    loaded = load(str(tmp_path / "demo.pt"), tmp_path / "demo.json").model.state_dict()
    for name, expected in trainer.mean.state_dict().items():
        assert torch.equal(loaded[name], expected.half().float()), name


def test_the_update_of_a_matrix_becomes_orthogonal() -> None:
    matrices = torch.randn(2, 24, 60, generator=torch.Generator().manual_seed(0))
    for result in (orthogonal(matrices), orthogonal(matrices.transpose(1, 2))):
        values = torch.linalg.svdvals(result)
        assert values.min() > 0.5
        assert values.max() < 1.3
