"""The state of an unfinished training, and the finished checkpoint in the layout of `sam3.pt`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam3_export import sam3_layout
from sam3_export.demo.network import DEMO

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

    from sam3_export.demo.train import Trainer

_STATE = "state.pt"


def save_state(trainer: Trainer, directory: Path) -> None:
    """Writes all that training needs to go on; averages and momenta in half precision, which is enough for them."""
    state = {
        "step": trainer.step,
        "seconds": trainer.seconds,
        "figures": trainer.figures,
        "model": trainer.model.state_dict(),
        "layout": trainer.layout.state_dict(),
        "mean": _as_half(trainer.mean.state_dict()),
        "optimisers": [_as_half(optimiser.state_dict()) for optimiser in trainer.optimisers],
    }
    new = directory / (_STATE + ".new")
    torch.save(state, new)
    new.replace(directory / _STATE)


def load_state(trainer: Trainer, directory: Path) -> None:
    """Puts the trainer where the last `save_state` left it; a fresh directory leaves it as it is."""
    path = directory / _STATE
    if not path.exists():
        return
    state = torch.load(path, weights_only=True)
    for name in ("step", "seconds", "figures"):
        setattr(trainer, name, state[name])
    trainer.model.load_state_dict(state["model"])
    trainer.layout.load_state_dict(state["layout"])
    trainer.mean.load_state_dict(state["mean"])
    for optimiser, saved in zip(trainer.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)


def _as_half(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() > 0:
        return value.bfloat16()  # the range of fp32: squared gradients vanish in fp16
    if isinstance(value, dict):
        return {key: _as_half(entry) for key, entry in value.items()}
    return value


def write_checkpoint(model: Sam3TrackerModel, path: Path) -> None:
    """Writes the weights in fp16 in the layout of `sam3.pt`, and beside them their sizes as JSON."""
    tensors = sam3_layout.write(model.state_dict())
    torch.save({"model": {key: tensor.half() for key, tensor in tensors.items()}}, path)
    path.with_suffix(".json").write_text(json.dumps(asdict(DEMO), indent=2) + "\n")
