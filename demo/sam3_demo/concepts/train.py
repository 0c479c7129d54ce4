"""Trains the concept half of the demonstration model over as many sittings as needed, and evaluates it.

The click half, and with it the trunk, stays as it is. Stop it with Ctrl-C or SIGTERM; the same command resumes it.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sam3_export.demo import CHECKPOINT

from sam3_demo.concepts import network
from sam3_demo.concepts.evaluate import evaluate
from sam3_demo.concepts.first_lessons import teach_cells, teach_words
from sam3_demo.concepts.losses import loss
from sam3_demo.concepts.pool import Pool, open_pool
from sam3_demo.concepts.samples import Batch, batch
from sam3_demo.concepts.storage import write_checkpoint
from sam3_demo.losses import mask_losses
from sam3_demo.network import average
from sam3_demo.optimiser import optimisers
from sam3_demo.storage import as_half, load_state, save_state

FIRST_SCENE = 1_000_000  # seeds of training scenes; the evaluation uses lower ones
RATE = 2e-3
_WARM_UP = 50  # steps
_COOL_DOWN = 0.3  # share of all steps over which the rate falls to zero
_EMA_STEPS = 150
_LARGEST_GRADIENT = 5.0
_MASKS_FROM = 200  # the step at which masks begin: they need slots that have found their objects
_MASKS = 0.125  # share of the queries that learn a mask
_SAVE_SECONDS = 180


class Trainer:
    """The network in training, its moving average, and everything needed to resume."""

    def __init__(self, steps: int, scenes: int, queries: int, seed: int) -> None:
        """
        Args:
            steps: of the whole training; scenes: of a step; queries: for each scene of a step.
        """
        torch.manual_seed(seed)
        self.total, self.scenes, self.queries, self.seed = steps, scenes, queries, seed
        self.model = network.Trainee(network.fresh(), network.click_centre())
        self.mean = network.fresh()
        self.mean.load_state_dict(self.model.network.state_dict())
        self.optimisers = optimisers([self.model], RATE)
        self.step = 0
        self.seconds = 0.0
        self.figures: dict[str, float] = {}

    def pace(self) -> float:
        """The learning rate of the current step, as a share of the highest."""
        return min(1.0, (self.step + 1) / _WARM_UP, (self.total - self.step) / (self.total * _COOL_DOWN))

    def state(self) -> dict[str, Any]:
        """Everything needed to resume; half precision is enough for averages and momenta."""
        return {
            "plan": [self.scenes, self.queries, self.seed],
            "step": self.step,
            "seconds": self.seconds,
            "figures": self.figures,
            "model": self.model.state_dict(),
            "mean": as_half(self.mean.state_dict()),
            "optimisers": [as_half(optimiser.state_dict()) for optimiser in self.optimisers],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continues from what `state` returned, perhaps with more steps: until the rate falls, they change nothing.

        Raises:
            ValueError: it belongs to a training with another batch or seed.
        """
        plan = [self.scenes, self.queries, self.seed]
        if state["plan"] != plan:
            raise ValueError(f"the saved training has scenes, queries, seed {state['plan']}, not {plan}")
        for name in ("step", "seconds", "figures"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        self.mean.load_state_dict(state["mean"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def begin(self, pool: Pool) -> None:
        """What comes before the first step."""
        begun = time.process_time()
        right = teach_words(self.model, self.seed)
        print(f"The text encoder reads {right:.1%} of the attributes in phrases.", flush=True)
        left = teach_cells(self.model, pool, self.seed)
        print(f"The neck tells what is in a cell with a loss of {left:.3f}.", flush=True)
        self.mean.load_state_dict(self.model.network.state_dict())
        self.seconds = time.process_time() - begun

    def run(self, pool: Pool, directory: Path, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Runs the remaining steps and saves the state every few minutes and at the end.

        Args:
            stopped: asked after each step whether to stop early.
        Returns: whether the training is complete.
        """
        saved = time.monotonic()
        while self.step < self.total and not stopped():
            begun = time.process_time()
            self.learn(self.batch(pool))
            self.seconds += time.process_time() - begun
            if self.step % 20 == 0:
                self._show()
            if time.monotonic() - saved > _SAVE_SECONDS:
                save_state(self.state(), directory)
                saved = time.monotonic()
        save_state(self.state(), directory)
        return self.step == self.total

    def batch(self, pool: Pool) -> Batch:
        """The batch of the current step; it depends only on the seed and the step."""
        masks = round(_MASKS * self.scenes * self.queries) if self.step >= _MASKS_FROM else 0
        rng = np.random.default_rng([self.seed, self.step])
        return batch(pool, rng, self.scenes, self.queries, masks)

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step; returns the parts of its loss."""
        answers = self.model(batch.features, batch.tokens, batch.coords, batch.labels)
        total, parts, (rows, slots, objects) = loss(answers, batch)
        if len(batch.mask_rows):
            chosen = torch.stack(
                [
                    slots[(rows == row) & (objects == number)][0]
                    for row, number in zip(batch.mask_rows, batch.mask_objects, strict=True)
                ]
            )
            features = batch.features[batch.mask_rows // self.queries]
            masks = mask_losses(self.model.masks(features, answers, batch.mask_rows, chosen), batch.coverage).mean()
            total, parts["mask"] = total + masks, float(masks.detach())
        for optimiser in self.optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = self.pace() * group.setdefault("highest_lr", group["lr"])
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _LARGEST_GRADIENT)
        for optimiser in self.optimisers:
            optimiser.step()
        average(self.mean, self.model.network, max(1 / _EMA_STEPS, 1 / (self.step + 2)))
        self.step += 1
        for name, value in parts.items():
            earlier = self.figures.get(name, value)
            self.figures[name] = earlier + 0.05 * (value - earlier)
        return parts

    def _show(self) -> None:
        figures = "  ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        print(f"{self.seconds / 60:6.1f} CPU min  step {self.step}/{self.total}  {figures}", flush=True)


class _Stop:
    """Becomes true at the first Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, *call: object) -> None:
        self.requested = True

    def __call__(self) -> bool:
        return self.requested


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m sam3_demo.concepts.train", description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="directory for the scenes and the training state; reuse it to resume"
    )
    parser.add_argument(
        "--output", type=Path, default=CHECKPOINT, help="checkpoint to write (default: replace the demonstration model)"
    )
    parser.add_argument("--sheets", type=Path, required=True, help="directory for the picture sheets")
    parser.add_argument("--scenes", type=int, default=4000, help="training scenes to generate (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4000, help="training steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    pool = open_pool(options.work / "scenes", options.scenes, FIRST_SCENE, options.threads)
    trainer = Trainer(options.steps, scenes=8, queries=4, seed=options.seed)
    if (state := load_state(options.work)) is not None:
        trainer.resume(state)
    else:
        trainer.begin(pool)
    if not trainer.run(pool, options.work, _Stop()):
        print(f"Stopped at step {trainer.step} of {trainer.total}; the same command resumes.")
        return
    write_checkpoint(trainer.mean, options.output)
    evaluate(options.output, _record(options, trainer), options.sheets)


def _record(options: argparse.Namespace, trainer: Trainer) -> dict[str, object]:
    """How the concept half was trained, for the report."""
    command = f"python -m sam3_demo.concepts.train --work WORK --sheets SHEETS --steps {options.steps}"
    return {
        "command": f"{command} --scenes {options.scenes} --seed {options.seed} --threads {options.threads}",
        "CPU minutes": round(trainer.seconds / 60),
        "machine": f"{os.cpu_count()} CPU cores, no GPU",
        "PyTorch": torch.__version__,
    }


if __name__ == "__main__":
    main()
