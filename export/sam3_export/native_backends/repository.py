"""The model repository as Triton would load it: for each profile, each model's config and the file it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

DEFAULT_PROFILE = "default"
PROFILES = "ensemble_configs"
# The backends whose models sam3-export writes.
EXPORTED = ("onnxruntime", "pytorch")
# What a backend opens where the config names no file.
_DEFAULT_FILES = {"onnxruntime": "model.onnx", "pytorch": "model.pt", "python": "model.py"}


@dataclass(frozen=True)
class Fault:
    """One rule broken by one config or the file it names; `str` gives one line."""

    config: str
    model: str
    tensor: str
    rule: str

    def __str__(self) -> str:
        return f"{self.config}: {self.model}{', ' if self.tensor else ''}{self.tensor}: {self.rule}"


@dataclass(frozen=True)
class Finding:
    """What a rule says of a model: `tensor` is empty where it is about the model itself."""

    rule: str
    tensor: str = ""


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Tensor:
    """An input or output; -1 is an open axis. A config's `dims` leave out the batch axis, a model file's have it."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model as Triton knows them once it is loaded, without the batch axis."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Model:
    """A model under one profile: its config, where that was read, and the version folder with its file."""

    name: str
    label: str
    config: Any
    folder: Path

    @property
    def is_ensemble(self) -> bool:
        return self.config.platform == "ensemble"

    @property
    def file(self) -> Path:
        """What the backend opens."""
        return self.folder / (self.config.default_model_filename or _DEFAULT_FILES.get(self.config.backend, ""))

    @property
    def batches(self) -> bool:
        return self.config.max_batch_size > 0

    @property
    def parameters(self) -> dict[str, str]:
        return {key: value.string_value for key, value in self.config.parameters.items()}

    def declared(self) -> Signature:
        """What the config itself says of the tensors."""
        return Signature(tuple(map(_tensor, self.config.input)), tuple(map(_tensor, self.config.output)))

    def fault(self, finding: Finding) -> Fault:
        return Fault(self.label, self.name, finding.tensor, finding.rule)


def _tensor(declared: Any) -> Tensor:
    data_type = model_config_pb2.DataType.Name(declared.data_type)
    return Tensor(declared.name, data_type, tuple(declared.dims), getattr(declared, "optional", False))


def profiles(repository: Path) -> list[str]:
    """The default and every folder of `ensemble_configs/` beside the repository."""
    folder = repository.resolve().parent / PROFILES
    return [DEFAULT_PROFILE, *sorted(entry.name for entry in folder.glob("*") if entry.is_dir())]


def load(repository: Path, profile: str, artifacts: Path | None) -> tuple[dict[str, Model], list[Fault]]:
    """Every model of the repository under a profile, by name, and the configs that are none.

    `artifacts`, where given, has a folder for each exported model, in place of its version folder.
    """
    root = repository.resolve().parent
    models: dict[str, Model] = {}
    faults = []
    for default in sorted(repository.resolve().glob("*/config.pbtxt")):
        name = default.parent.name
        own = root / PROFILES / profile / f"{name}.pbtxt"
        path = own if own.is_file() else default
        label = str(path.relative_to(root))
        try:
            config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            faults.append(Fault(label, name, "", f"Triton cannot parse this config ({error})"))
        else:
            folder = default.parent / "1"
            if artifacts is not None and config.backend in EXPORTED:
                folder = artifacts / name
            models[name] = Model(name, label, config, folder)
    return models, faults
