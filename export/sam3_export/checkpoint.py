"""Reads a SAM 3 checkpoint: Meta's `sam3.pt`, or a transformers directory or hub id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_export import sam3_layout
from sam3_export.architecture import Architecture
from sam3_export.errors import ExportError

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, and where they came from."""

    model: Sam3TrackerModel
    architecture: Architecture
    source: str
    sha256: str  # of the file; of a directory, of its weight files in the order of their names


def load(source: str, config: Path | None = None) -> Checkpoint:
    """Loads a checkpoint in fp32 on the CPU.

    Args:
        source: a file in the layout of `sam3.pt`, a directory saved by transformers, or a hub id.
        config: JSON file with the sizes of the network, if a file's network is not of SAM 3's size.

    Raises:
        ExportError: the file or directory cannot be read, lacks a tensor or has one of the wrong shape.
    """
    path = Path(source)
    if path.is_dir():
        return _load_directory(path, source, config)
    if path.exists() or not _HUB_ID.fullmatch(source) or path.suffix in (".pt", ".pth"):
        return _load_file(path, Architecture.from_json(config) if config else Architecture())
    return _load_directory(_download(source), source, config)


def _load_file(path: Path, architecture: Architecture) -> Checkpoint:
    tensors = _read_tensors(path)
    model = architecture.build()
    state = {}
    missing = []
    for key, parameter in model.state_dict().items():
        try:
            tensor = sam3_layout.read(tensors, key)
        except KeyError as error:
            missing.append(error.args[0])
            continue
        except (IndexError, RuntimeError, AttributeError) as error:
            raise ExportError(f"{path}: {sam3_layout.sam3_key(key)} cannot be read ({error})") from error
        if tensor.shape != parameter.shape:
            raise ExportError(
                f"{path}: {sam3_layout.sam3_key(key)} has the wrong shape for {key}: {tuple(tensor.shape)}, "
                f"not {tuple(parameter.shape)}; pass the sizes of this checkpoint with --config"
            )
        state[key] = tensor.float()
    if missing:
        names = sorted(set(missing))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ExportError(f"{path}: lacks the key {names[0]}{more}; expected the layout of sam3.pt")
    model.load_state_dict(state)
    return Checkpoint(model, architecture, str(path), _sha256([path]))


def _read_tensors(path: Path) -> Mapping[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: no such file or directory") from error
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ExportError(f"{path}: not a PyTorch checkpoint of plain tensors") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise ExportError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors")
    return content


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub's client raises many kinds of errors, all of them about this id
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{hub_id}: no such file, and the Hugging Face Hub does not provide it ({reason})") from error


def _load_directory(directory: Path, source: str, config: Path | None) -> Checkpoint:
    from torch import nn
    from transformers import Sam3TrackerModel
    from transformers.utils import logging

    if config is not None:
        raise ExportError(f"{source}: a transformers checkpoint includes its sizes; omit --config")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ExportError(f"{source}: no *.safetensors file in this directory")
    logging.disable_progress_bar()
    try:
        model, info = Sam3TrackerModel.from_pretrained(directory, output_loading_info=True)
    except Exception as error:  # from transformers: OSError, ValueError, RuntimeError, SafetensorError, ...
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{source}: not a transformers checkpoint of SAM 3 ({reason})") from error
    if missing := sorted(info["missing_keys"]):
        raise ExportError(f"{source}: lacks the key {missing[0]} (missing: {len(missing)})")
    if mismatched := list(info["mismatched_keys"]):
        raise ExportError(f"{source}: the tensor {mismatched[0][0]} has the wrong shape")
    model = model.float().eval()
    architecture = Architecture.of_model(model)
    for module in model.vision_encoder.backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = architecture.layer_norm_eps
    return Checkpoint(model, architecture, source, _sha256(weights))


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
