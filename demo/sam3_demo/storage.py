"""Saves and loads the training state, and writes the finished checkpoint in the layout of `sam3.pt`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sam3_export import sam3_layout
from torch import Tensor

from sam3_demo.network import DEMO

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

_STATE = "state.pt"


def save_state(state: dict[str, Any], directory: Path) -> None:
    """Writes a state from `Trainer.state`, completely or not at all."""
    new = directory / (_STATE + ".new")
    torch.save(state, new)
    new.replace(directory / _STATE)


def load_state(directory: Path) -> dict[str, Any] | None:
    """The last state that `save_state` wrote; None in a fresh directory."""
    path = directory / _STATE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def as_half(value: Any) -> Any:
    """Converts a state's tensors, at any depth, to bfloat16; scalars stay as they are."""
    if isinstance(value, Tensor) and value.dim() > 0:
        return value.bfloat16()  # has the range of fp32; squared gradients would vanish in fp16
    if isinstance(value, dict):
        return {key: as_half(entry) for key, entry in value.items()}
    return value


def write_checkpoint(model: Sam3TrackerModel, path: Path) -> None:
    """Writes the weights in fp16 in the layout of `sam3.pt`, and the network's sizes as JSON beside them."""
    tensors = sam3_layout.write(model.state_dict(), sam3_layout.SAM3)
    torch.save({"model": {key: tensor.half() for key, tensor in tensors.items()}}, path)
    path.with_suffix(".json").write_text(json.dumps(asdict(DEMO), indent=2) + "\n")
