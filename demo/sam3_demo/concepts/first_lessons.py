"""What text encoder and neck learn alone, before they meet: in two minutes, what together takes much longer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam3_demo.concepts.losses import cells_loss
from sam3_demo.concepts.network import Trainee
from sam3_demo.concepts.phrases import ANY, Meaning, compose, nameable
from sam3_demo.concepts.pool import Pool
from sam3_demo.concepts.samples import look_at
from sam3_demo.concepts.scenes import AXES
from sam3_demo.optimiser import optimisers

Rng = np.random.Generator
_PHRASES, _WORDS_RATE = 128, 4e-3
_NAMED = 0.45  # share of the attributes that a phrase names
_SCENES, _CELLS_RATE = 32, 2e-3


def teach_words(model: Trainee, seed: int, steps: int = 200) -> float:
    """Trains the text encoder to tell what phrases mean; returns the share of attributes read rightly at the end."""
    rng = np.random.default_rng([seed, 0])
    parameters = [*model.text.parameters(), *model.meanings.parameters()]
    optimiser = torch.optim.AdamW(parameters, _WORDS_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    right = 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _WORDS_RATE * (1 - step / steps)
        tokens, meanings = _phrases(rng)
        logits = model.meanings_of(tokens, model.text(tokens)[0])
        loss = torch.stack([F.cross_entropy(*pair) for pair in zip(logits, meanings.T, strict=True)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        read = [(one.argmax(1) == values).float().mean() for one, values in zip(logits, meanings.T, strict=True)]
        right += 0.1 * (float(torch.stack(read).mean()) - right)
    return right


def teach_cells(model: Trainee, pool: Pool, seed: int, steps: int = 300) -> float:
    """Trains the coarse level of the neck to tell what is in each cell; returns the loss at the end."""
    rng = np.random.default_rng([seed, 1])
    chosen = optimisers([model.detector.levels[2], model.values, model.extent], _CELLS_RATE)
    average = 0.0
    for step in range(steps):
        indices = np.sort(rng.choice(len(pool), min(_SCENES, len(pool)), replace=False))
        features, *scenes = look_at(pool, indices)
        loss = cells_loss(*model.look(features)[1:], *scenes)
        for optimiser in chosen:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in chosen:
            for group in optimiser.param_groups:
                group["lr"] = (_CELLS_RATE if optimiser is chosen[0] else _CELLS_RATE / 2) * (1 - step / steps)
            optimiser.step()
        average += max(0.1, 1 / (step + 1)) * (float(loss.detach()) - average)
    return average


def _phrases(rng: Rng) -> tuple[Tensor, Tensor]:
    """Tokens int32 [N, T] and what they mean, as in `Batch`."""
    meanings = [_meaning(rng) for _ in range(_PHRASES)]
    tokens = np.stack([compose(rng, meaning).tokens() for meaning in meanings])
    return torch.from_numpy(tokens), torch.tensor(meanings) + 1


def _meaning(rng: Rng) -> Meaning:
    while True:
        meaning = tuple(int(rng.integers(len(names))) if rng.random() < _NAMED else ANY for names in AXES.values())
        if nameable(meaning):
            return meaning
