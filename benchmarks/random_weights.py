"""Networks of SAM 3's own sizes with seeded random weights: they show what it costs, not how good masks are."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from sam3_export.architecture import Architecture

from benchmarks.model_functions import PROJECT

_SEED = 0
FULL_SIZE = Architecture()
# SAM 3's mask decoder and features behind a backbone of one thin layer.
FULL_SIZE_DECODER = replace(
    FULL_SIZE,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=1,
    num_attention_heads=2,
    global_attn_indexes=(),
)


def write_checkpoint(path: Path, architecture: Architecture = FULL_SIZE) -> None:
    """A file in the layout of `sam3.pt`, fp32, and its sizes as JSON beside it, for `sam3-export --config`."""
    import torch
    from sam3_export import sam3_layout

    torch.manual_seed(_SEED)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save({"model": sam3_layout.write(architecture.build().state_dict())}, unfinished)
    path.with_suffix(".json").write_text(json.dumps(asdict(architecture), indent=2) + "\n")
    unfinished.rename(path)


def copy_bare_repository(repository: Path) -> None:
    """The model repository as a clone has it, without artifacts."""
    shutil.rmtree(repository, ignore_errors=True)
    generated = shutil.ignore_patterns("exports", "configs", "__pycache__")
    shutil.copytree(PROJECT / "model_repository", repository, symlinks=True, ignore=generated)
    for model in ("sam3_image_encoder", "sam3_mask_decoder"):
        (repository / model / "1").unlink(missing_ok=True)
