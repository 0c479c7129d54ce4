"""Reads a checkpoint of SAM 3 or SAM 3.1: a file of Meta's, or a transformers directory or hub id of SAM 3."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_export import concept_layout, concept_network, sam3_layout
from sam3_export.architecture import Architecture
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.concept_network import ConceptNetwork
from sam3_export.digests import sha256
from sam3_export.errors import ExportError
from sam3_export.sam3_layout import Layout

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Sam3TrackerModel

_NO_KEY = f"no key begins with {concept_layout.PREFIX}"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, and where they came from.

    Attributes:
        release: "SAM 3" or "SAM 3.1".
        sha256: of the file, in hex; of a directory, of its weight files in the order of their names.
        concepts: the half that finds every instance of a concept; None if it is missing or not wanted.
    """

    model: Sam3TrackerModel
    architecture: Architecture
    release: str
    source: str
    sha256: str
    concepts: ConceptNetwork | None = None

    @property
    def parameters(self) -> int:
        """The number of weights of everything that is exported."""
        networks = [self.model, *([self.concepts] if self.concepts is not None else [])]
        return sum(weight.numel() for network in networks for weight in network.parameters())

    @property
    def sigmoid_scores(self) -> bool:
        """Whether scores pass a sigmoid and so are in 0..1; without one, they may be any number."""
        return bool(self.model.mask_decoder.iou_prediction_head.sigmoid_output)


def load(source: str, config: Path | None = None, concepts: bool | None = None) -> Checkpoint:
    """Loads a checkpoint in fp32 on the CPU.

    Args:
        source: a file in the layout of `sam3.pt` or `sam3.1_multiplex.pt`; a directory saved by transformers, or a hub
            id, of SAM 3.
        config: JSON file with the sizes of the network, if a file's network is not of SAM 3's size.
        concepts: whether to load the half that finds every instance of a concept; None: if it is there.

    Raises:
        ExportError: the file or directory cannot be read, lacks a tensor or has one of the wrong shape.
    """
    path = Path(source)
    if path.is_dir():
        return _load_directory(path, source, config, concepts)
    if path.exists() or not _HUB_ID.fullmatch(source) or path.suffix in (".pt", ".pth"):
        return _load_file(path, Architecture.from_json(config) if config else Architecture(), concepts)
    return _load_directory(_download(source), source, config, concepts)


def _load_file(path: Path, architecture: Architecture, concepts: bool | None) -> Checkpoint:
    tensors = _read_tensors(path)
    layout = sam3_layout.recognise(tensors)
    if layout is None:
        expected = " or ".join(f"{' or '.join(one.prefixes)} ({one.release})" for one in sam3_layout.LAYOUTS)
        raise ExportError(f"{path}: not a checkpoint of SAM 3 or SAM 3.1; no key begins with {expected}")
    model = architecture.build()
    # Meta's code builds the score head of both releases from one class, with or without a sigmoid.
    model.mask_decoder.iou_prediction_head.sigmoid_output = layout.sigmoid_scores
    model.load_state_dict(_state(path, tensors, layout, model.state_dict()))
    architecture, network = _concepts_of_file(path, tensors, architecture, concepts)
    return Checkpoint(model, architecture, layout.release, str(path), sha256([path]), network)


def _concepts_of_file(
    path: Path, tensors: Mapping[str, Tensor], architecture: Architecture, wanted: bool | None
) -> tuple[Architecture, ConceptNetwork | None]:
    """The sizes of what is exported, and the half that finds every instance of a concept."""
    if not _has_concepts(concept_layout.is_in(tensors), wanted, f"{path}: has no concept prompts ({_NO_KEY})"):
        return replace(architecture, concepts=None), None
    architecture = replace(architecture, concepts=architecture.concepts or ConceptArchitecture())
    network = concept_network.build(architecture)
    network.load_state_dict(_concept_state(path, tensors, network.state_dict()))
    return architecture, network


def _has_concepts(present: bool, wanted: bool | None, missing: str) -> bool:
    """Whether to load the concept half; `missing` is the error if it is wanted, but not present."""
    if wanted and not present:
        raise ExportError(missing)
    return present if wanted is None else wanted


def _state(
    path: Path, tensors: Mapping[str, Tensor], layout: Layout, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a file in fp32, by the names and with the shapes of the network's parameters."""
    return _tensors(
        path,
        parameters,
        read=lambda key: sam3_layout.read(tensors, key, layout),
        names=lambda key: sam3_layout.metas_names(key, layout),
        expected=f"{layout.file_name} ({layout.release})",
    )


def _concept_state(path: Path, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Like `_state`, for the concept half, which has the same names in both releases."""
    return _tensors(
        path,
        parameters,
        read=lambda key: concept_layout.read(tensors, key),
        names=lambda key: (concept_layout.metas_name(key),),
        expected="a checkpoint with concept prompts; without them, export with --components clicks",
    )


def _tensors(
    path: Path,
    parameters: Mapping[str, Tensor],
    read: Callable[[str], Tensor],
    names: Callable[[str], tuple[str, ...]],
    expected: str,
) -> dict[str, Tensor]:
    state = {}
    missing = set()
    for key, parameter in parameters.items():
        told = ", ".join(names(key))
        try:
            tensor = read(key)
            shape = tuple(tensor.shape)
        except KeyError as error:
            missing.add(error.args[0])
            continue
        except (IndexError, RuntimeError, AttributeError, TypeError) as error:
            raise ExportError(f"{path}: {told} cannot be read ({error})") from error
        if shape != tuple(parameter.shape):
            raise ExportError(
                f"{path}: {told} has the wrong shape for {key}: {shape}, "
                f"not {tuple(parameter.shape)}; pass the sizes of this checkpoint with --config"
            )
        state[key] = tensor.float()
    if missing:
        first, *others = sorted(missing)
        more = f" and {len(others)} more" if others else ""
        raise ExportError(f"{path}: lacks the key {first}{more}; expected the layout of {expected}")
    return state


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
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
    if unnamed := [key for key in content if not isinstance(key, str)]:
        raise ExportError(f"{path}: holds a dictionary with the key {unnamed[0]!r}, not one of named tensors")
    return content


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub's client raises many kinds of errors, all of them about this id
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{hub_id}: no such file, and the Hugging Face Hub does not provide it ({reason})") from error


def _load_directory(directory: Path, source: str, config: Path | None, concepts: bool | None) -> Checkpoint:
    from torch import nn
    from transformers import Sam3TrackerModel
    from transformers.utils import logging

    if config is not None:
        raise ExportError(f"{source}: a transformers checkpoint includes its sizes; omit --config")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise ExportError(f"{source}: no *.safetensors file in this directory; for a file of Meta's, give its own path")
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
    architecture, network = _concepts_of_directory(directory, source, architecture, concepts)
    return Checkpoint(model, architecture, sam3_layout.SAM3.release, source, sha256(weights), network)


def _concepts_of_directory(
    directory: Path, source: str, architecture: Architecture, wanted: bool | None
) -> tuple[Architecture, ConceptNetwork | None]:
    # The config of a directory with both halves, such as that of facebook/sam3, describes each separately.
    present = "detector_config" in json.loads((directory / "config.json").read_text())
    if not _has_concepts(present, wanted, f"{source}: has no concept prompts (no detector_config in its config.json)"):
        return architecture, None
    # `from transformers import Sam3Model` would want torchvision, which nothing here uses.
    from transformers.models.sam3.modeling_sam3 import Sam3Model

    model, info = Sam3Model.from_pretrained(directory, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ExportError(f"{source}: lacks the key {missing[0]} (missing: {len(missing)})")
    sizes = ConceptArchitecture.of_model(model)
    network = ConceptNetwork(model.config, architecture.layer_norm_eps).eval()
    state, own = model.state_dict(), {}
    parts = {"levels.": "vision_encoder.neck.fpn_layers.", "text_encoder.": "text_encoder.text_model."}
    for key in network.state_dict():
        part = next((part for part in parts if key.startswith(part)), "")
        own[key] = state[parts.get(part, "") + key.removeprefix(part)].float()
    network.load_state_dict(own)
    return replace(architecture, concepts=sizes), network
