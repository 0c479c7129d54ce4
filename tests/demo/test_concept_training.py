"""The concept half in training: it learns, it resumes, and what it writes is what is served."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from sam3_demo.concepts import network
from sam3_demo.concepts.finder import Finder
from sam3_demo.concepts.first_lessons import teach_cells, teach_words
from sam3_demo.concepts.phrases import UNKNOWN_ID, VOCABULARY, Phrase
from sam3_demo.concepts.pool import Pool, open_pool
from sam3_demo.concepts.samples import Batch, Query
from sam3_demo.concepts.scenes import make_shape_scene
from sam3_demo.concepts.storage import write_checkpoint
from sam3_demo.concepts.train import FIRST_SCENE, Trainer
from sam3_demo.pool import SCENE_SIZE
from sam3_demo.storage import load_state, save_state
from sam3_export.checkpoint import load
from sam3_export.demo import CHECKPOINT


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return open_pool(tmp_path_factory.mktemp("scenes"), 4, FIRST_SCENE, workers=1)


def test_phrases_are_understood_before_any_picture() -> None:
    model = network.Trainee(network.fresh(), network.click_centre())
    assert teach_words(model, seed=0, steps=120) > 0.9
    phrase = Phrase.parse("small striped stars")
    tokens = torch.from_numpy(phrase.tokens())[None]
    with torch.no_grad():
        read = [int(logits.argmax()) - 1 for logits in model.meanings_of(tokens, model.text(tokens)[0])]
    assert tuple(read) == phrase.meaning


def test_the_neck_learns_what_is_in_a_cell(pool: Pool) -> None:
    model = network.Trainee(network.fresh(), network.click_centre())
    assert teach_cells(model, pool, seed=0, steps=15) < 0.7 * teach_cells(
        network.Trainee(network.fresh(), network.click_centre()), pool, seed=0, steps=1
    )


def trained(pool: Pool, steps: int, until: int, directory: Path, seed: int = 3) -> Trainer:
    trainer = Trainer(steps, scenes=2, queries=2, seed=seed)
    trainer.run(pool, directory, lambda: trainer.step == until)
    return trainer


def test_it_learns(pool: Pool) -> None:
    trainer = Trainer(steps=200, scenes=4, queries=2, seed=0)
    trainer.step = 50  # after the warm-up
    batch = trainer.batch(pool)
    parts = [trainer.learn(batch) for _ in range(10)]
    for name in ("score", "match", "cells"):
        assert parts[-1][name] < 0.8 * parts[0][name], name


def test_training_goes_on_where_it_stopped(pool: Pool, tmp_path: Path) -> None:
    through = trained(pool, 3, 3, tmp_path)
    stopped = trained(pool, 3, 2, tmp_path)
    assert stopped.step == 2
    state = load_state(tmp_path)
    assert state is not None
    resumed = Trainer(3, scenes=2, queries=2, seed=3)
    resumed.resume(state)
    assert resumed.run(pool, tmp_path)
    for name, expected in through.model.state_dict().items():
        # Momenta are kept in half precision, so the next update differs in its last digits.
        assert torch.allclose(resumed.model.state_dict()[name], expected, atol=1e-4), name
    # That of averages is in half precision.
    for name, expected in through.mean.state_dict().items():
        assert torch.allclose(resumed.mean.state_dict()[name], expected, atol=2e-2, rtol=2e-2), name


def test_another_training_is_not_resumed(pool: Pool, tmp_path: Path) -> None:
    save_state(Trainer(3, scenes=2, queries=2, seed=3).state(), tmp_path)
    state = load_state(tmp_path)
    assert state is not None
    with pytest.raises(ValueError, match=r"scenes, queries, seed \[2, 2, 3\], not \[4, 2, 3\]"):
        Trainer(3, scenes=4, queries=2, seed=3).resume(state)


def test_a_folder_of_other_scenes_is_refused(pool: Pool, tmp_path: Path) -> None:
    np.save(tmp_path / "made.npy", np.ones(2, np.uint8))
    with pytest.raises(ValueError, match="holds 2 scenes, not 4; use another directory"):
        open_pool(tmp_path, 4, FIRST_SCENE, workers=1)


def test_the_pool_holds_what_the_scenes_show(pool: Pool) -> None:
    scene = make_shape_scene(FIRST_SCENE + 1, SCENE_SIZE)
    count = len(scene.attributes)
    assert np.array_equal(pool.objects[1], scene.objects)
    assert np.array_equal(pool.attributes[1, :count], scene.attributes)
    assert (pool.attributes[1, count:] == -1).all()
    assert np.array_equal(pool.boxes[1, :count], scene.boxes)


def test_training_answers_as_the_served_modules_do(pool: Pool, tmp_path: Path) -> None:
    """The losses see the same boxes, scores and masks."""
    network_ = network.fresh().eval()
    trainee = network.Trainee(network_, network.click_centre())
    write_checkpoint(network_, tmp_path / "demo.pt")
    finder = Finder(load(str(tmp_path / "demo.pt"), tmp_path / "demo.json"))
    finder.look_at(make_shape_scene(FIRST_SCENE, SCENE_SIZE).image)
    assert np.abs(finder.features[0].numpy().astype(np.float32) - pool.features[0]).max() < 2e-2

    batch = Trainer(3, scenes=1, queries=1, seed=0).batch(Pool(*(getattr(pool, one.name)[:1] for one in fields(Pool))))
    with torch.inference_mode():
        answers = trainee(batch.features, batch.tokens, batch.coords, batch.labels)
        words = finder.text(batch.tokens)[0]
        scores, boxes, logits, presence = finder.detector(
            batch.features, words, batch.tokens != 0, batch.coords, batch.labels, finder.ranks
        )
        best = (answers.logits[-1, 0].sigmoid() * answers.presence.sigmoid()).argmax()[None]
        masks = trainee.masks(batch.features, answers, torch.tensor([0]), best)
    near = {"rtol": 0.02, "atol": 0.02}  # the checkpoint is in fp16
    torch.testing.assert_close(presence[0], answers.presence.sigmoid(), **near)
    torch.testing.assert_close(scores[0, 0], answers.logits[-1, 0, best[0]].sigmoid() * presence[0, 0], **near)
    torch.testing.assert_close(boxes[0, 0], answers.boxes[-1, 0, best[0]], **near)
    torch.testing.assert_close(logits[0, 0], masks[0, 0], rtol=0.05, atol=0.05 * float(masks.abs().max()))


def test_the_written_checkpoint_keeps_the_clicks_and_stays_small(pool: Pool, tmp_path: Path) -> None:
    written = network.fresh()
    write_checkpoint(written, tmp_path / "demo.pt")
    assert (tmp_path / "demo.pt").stat().st_size <= 16e6
    loaded = load(str(tmp_path / "demo.pt"), tmp_path / "demo.json")
    clicks = load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=False).model.state_dict()
    assert all(torch.equal(clicks[name], tensor) for name, tensor in loaded.model.state_dict().items())
    assert loaded.concepts is not None
    table = "text_encoder.embeddings.token_embedding.weight"
    for name, tensor in loaded.concepts.state_dict().items():
        expected = written.state_dict()[name].half().float()
        rows = [UNKNOWN_ID, *VOCABULARY] if name == table else ...
        assert torch.equal(tensor[rows], expected[rows]), name
    words = loaded.concepts.state_dict()[table]
    assert torch.equal(words[40000], words[UNKNOWN_ID])  # a token that no known word has


def test_an_answer_is_of_the_size_of_the_picture(tmp_path: Path) -> None:
    write_checkpoint(network.fresh(), tmp_path / "demo.pt")
    finder = Finder(load(str(tmp_path / "demo.pt"), tmp_path / "demo.json"))
    scene = make_shape_scene(0, SCENE_SIZE)
    finder.look_at(scene.image)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    found = finder.find(Query(Phrase.parse("red circle"), *nothing, np.zeros(0, bool)))
    assert found.masks.shape[1:] == scene.objects.shape
    assert len(found.masks) == len(found.scores) == len(found.boxes)


def test_a_batch_tells_what_each_query_should_find(pool: Pool) -> None:
    batch: Batch = Trainer(10, scenes=4, queries=4, seed=1).batch(pool)
    assert len(batch.mask_rows) == 0  # masks come later
    late = Trainer(10, scenes=4, queries=4, seed=1)
    late.step = 200
    batch = late.batch(pool)
    assert len(batch.mask_rows) == len(batch.coverage) == 2
    for row, number, coverage in zip(batch.mask_rows, batch.mask_objects, batch.coverage, strict=True):
        assert batch.matching[row, number]
        cx, cy, width, height = batch.boxes[row // 4, number]
        y, x = (coverage > 0.5).nonzero().float().mean(0) / coverage.shape[0]
        assert abs(x - cx) < width / 2
        assert abs(y - cy) < height / 2
    shown = batch.cells.flatten(1).amax(1)
    assert (shown <= (batch.attributes[:, :, 0] >= 0).sum(1)).all()
