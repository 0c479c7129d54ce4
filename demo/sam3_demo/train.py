"""Trains the demonstration network, writes its checkpoint, and evaluates it."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sam3_export.demo import CHECKPOINT
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from sam3_demo import network
from sam3_demo.evaluate import evaluate
from sam3_demo.losses import LayoutHead, answer_loss, overlaps
from sam3_demo.optimiser import optimisers
from sam3_demo.pool import Pool, open_pool
from sam3_demo.prompts import Prompts, corrective_clicks
from sam3_demo.samples import Batch, Samples
from sam3_demo.storage import as_half, load_state, save_state, write_checkpoint

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

FIRST_SCENE = 1_000_000  # seeds of training scenes; the evaluation uses lower ones
RATE = 2e-3
_WARM_UP, _COOL_DOWN = 100, 0.3  # steps, and the share of all steps over which the rate falls to zero
_LAYOUT_ONLY, _FIRST_ONLY = 0.1, 0.3  # shares of all steps before clicks begin, and before corrections begin
_EMA_STEPS = 100
_BOX_SHARE, _MASK_SHARE = 0.25, 0.5


@dataclass(frozen=True)
class Stage:
    """Steps at one resolution: `size` pixels, `batch` pictures per step, `prompts` prompts per picture."""

    size: int
    steps: int
    batch: int
    prompts: int


class Trainer:
    """The network in training, its moving average, and everything needed to resume."""

    def __init__(self, stages: list[Stage], seed: int) -> None:
        torch.manual_seed(seed)
        self.stages, self.seed = stages, seed
        self.model = network.fresh(stages[0].size)
        self.mean = network.fresh(stages[0].size)
        self.mean.load_state_dict(self.model.state_dict())
        self.layout = LayoutHead(network.DEMO.hidden_size)
        self.optimisers = optimisers([self.model, self.layout], RATE)
        self.total = sum(stage.steps for stage in stages)
        self.step = 0
        self.seconds = 0.0
        self.figures = {"loss": 0.0, "first": 0.0, "best": 0.0, "last": 0.0, "layout": 0.0}

    def pace(self) -> float:
        """The learning rate of the current step, as a share of the highest."""
        return min(1.0, (self.step + 1) / _WARM_UP, (self.total - self.step) / (self.total * _COOL_DOWN))

    def state(self) -> dict[str, Any]:
        """Everything needed to resume; half precision is enough for averages and momenta."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "figures": self.figures,
            "model": self.model.state_dict(),
            "layout": self.layout.state_dict(),
            "mean": as_half(self.mean.state_dict()),
            "optimisers": [as_half(optimiser.state_dict()) for optimiser in self.optimisers],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continues from what `state` returned."""
        for name in ("step", "seconds", "figures"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        self.layout.load_state_dict(state["layout"])
        self.mean.load_state_dict(state["mean"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def run(self, pool: Pool, directory: Path) -> None:
        """Runs the remaining steps of all stages, and saves the state every 50 steps and at the end."""
        first = 0
        for stage in self.stages:
            if self.step < first + stage.steps:
                self._run_stage(stage, first, pool, directory)
            first += stage.steps
        save_state(self.state(), directory)

    def _run_stage(self, stage: Stage, first: int, pool: Pool, directory: Path) -> None:
        model = self._at_size(stage.size)
        halves = network.Halves(model)
        low_res = model.prompt_encoder.mask_input_size[0]
        samples = Samples(pool, self.seed, stage.steps, stage.size, low_res, stage.batch, stage.prompts)
        remaining = Subset(samples, range(self.step - first, stage.steps))
        begun = time.monotonic()
        before = self.seconds
        for batch in DataLoader(remaining, batch_size=None, num_workers=1, prefetch_factor=8):
            self._train_step(halves, batch)
            self.step += 1
            self.seconds = before + time.monotonic() - begun
            if self.step % 20 == 0:
                self._show(stage)
            if self.step % 50 == 0:
                save_state(self.state(), directory)

    def _at_size(self, size: int) -> Sam3TrackerModel:
        """The network at another resolution, sharing the same parameters."""
        model = network.fresh(size)
        mine = dict(self.model.named_parameters())
        for name, _ in list(model.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, mine[name])
        model.load_state_dict(self.model.state_dict())
        return model

    def _train_step(self, halves: network.Halves, batch: Batch) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        for optimiser, rate in zip(self.optimisers, (RATE, RATE / 2), strict=True):
            optimiser.param_groups[0]["lr"] = rate * self.pace()
            optimiser.zero_grad()
        features = halves.encoder(batch.pixels)
        layout = self.layout(halves.tokens, batch.labels, batch.boxes)
        loss = layout
        if self.step >= self.total * _LAYOUT_ONLY:  # answers mean little before the encoder detects objects
            loss = loss + self._answers_loss(halves, features, batch, generator)
        loss.backward()
        parameters = [parameter for optimiser in self.optimisers for parameter in optimiser.param_groups[0]["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimiser in self.optimisers:
            optimiser.step()
        network.average(self.mean, self.model, max(1 / _EMA_STEPS, 1 / (self.step + 2)))
        self._note(loss=float(loss.detach()), layout=float(layout.detach()))

    def _answers_loss(
        self, halves: network.Halves, features: tuple[Tensor, Tensor, Tensor], batch: Batch, generator: torch.Generator
    ) -> Tensor:
        """The loss of the first answers, and of the answers to one or two more clicks on half of the targets."""
        targets = batch.targets.flatten(0, 1)
        boxed = float(torch.rand((), generator=generator)) < _BOX_SHARE
        start = Prompts.boxes(batch.corners.flatten(0, 1)) if boxed else Prompts.clicks(batch.clicks.flatten(0, 1))
        masks = torch.zeros_like(targets)[:, None]
        has_mask = torch.zeros(len(targets), 1, dtype=torch.bool)
        logits, scores = halves.answer(features, start, masks, has_mask)
        loss = answer_loss(logits, scores, targets)
        if not boxed:
            right = overlaps(logits.detach(), targets)
            self._note(first=float(right[:, 0].mean()), best=float(right[:, 1:].amax(1).mean()))
        some = torch.arange(len(targets)) % 2 == 0
        targets, prompts, logits = targets[some], Prompts(start.coords[some], start.labels[some]), logits[some]
        # Corrections mean little before the first answers do.
        for _ in range(1 + self.step % 2 if self.step > self.total * _FIRST_ONLY else 0):
            earlier = logits[:, :1].detach().clamp(-32, 32)
            prompts = prompts.add(*corrective_clicks(earlier[:, 0], targets, generator))
            has_mask = torch.rand(len(targets), 1, generator=generator) < _MASK_SHARE
            logits, scores = halves.answer(features, prompts, earlier, has_mask)
            loss = loss + 0.5 * answer_loss(logits, scores, targets)
        if not boxed:
            self._note(last=float(overlaps(logits.detach(), targets)[:, 0].mean()))
        return loss

    def _note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.figures[name] += (value - self.figures[name]) * max(0.02, 1 / (self.step + 1))

    def _show(self, stage: Stage) -> None:
        figures = "  ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        print(f"{self.seconds / 60:6.1f} min  step {self.step}/{self.total} at {stage.size} px  {figures}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m sam3_demo.train", description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="directory for the scenes and the training state; reuse it to resume"
    )
    parser.add_argument(
        "--output", type=Path, default=CHECKPOINT, help="checkpoint to write (default: replace the demonstration model)"
    )
    parser.add_argument("--sheets", type=Path, required=True, help="directory for the picture sheets")
    parser.add_argument("--scenes", type=int, default=12000, help="training scenes to generate (default %(default)s)")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=2,
        default=(2000, 500),
        metavar=("SMALL", "FULL"),
        help="training steps at 126 and at 252 pixels (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    pool = open_pool(options.work / "scenes", options.scenes, FIRST_SCENE, options.threads)
    small, full = options.steps
    size = network.DEMO.image_size
    trainer = Trainer([Stage(size // 2, small, 16, 8), Stage(size, full, 8, 8)], options.seed)
    if (state := load_state(options.work)) is not None:
        trainer.resume(state)
    trainer.run(pool, options.work)
    write_checkpoint(trainer.mean, options.output)
    evaluate(options.output, _record(options, trainer), options.sheets)


def _record(options: argparse.Namespace, trainer: Trainer) -> dict[str, object]:
    """How the checkpoint was trained, for its report."""
    small, full = options.steps
    command = f"python -m sam3_demo.train --work WORK --sheets SHEETS --steps {small} {full}"
    return {
        "command": f"{command} --scenes {options.scenes} --seed {options.seed} --threads {options.threads}",
        "minutes": round(trainer.seconds / 60),
        "machine": f"{os.cpu_count()} CPU cores, no GPU",
        "PyTorch": torch.__version__,
    }


if __name__ == "__main__":
    main()
