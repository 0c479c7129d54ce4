"""The model repository as Triton loads it: for each profile, each model's config and the file that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sam3_export import installation
from sam3_export.installation import CONCEPTS

DEFAULT_PROFILE = "default"
PROFILES = "ensemble_configs"
# The backends whose models sam3-export writes.
EXPORTED = ("onnxruntime", "pytorch")
# The files that backends open if the config names none.
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
    """A broken rule; `tensor` is empty if the rule is about the model itself."""

    rule: str
    tensor: str = ""


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Tensor:
    """An input or output; -1 is an open axis. `dims` includes the batch axis."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A model under one profile: its config, the config's path (`label`), and the version folder with its file."""

    name: str
    label: str
    config: Any
    folder: Path

    @property
    def is_ensemble(self) -> bool:
        return self.config.platform == "ensemble"

    @property
    def file(self) -> Path:
        """The file that the backend opens."""
        return self.folder / (self.config.default_model_filename or _DEFAULT_FILES.get(self.config.backend, ""))

    @property
    def batches(self) -> bool:
        return self.config.max_batch_size > 0

    @property
    def parameters(self) -> dict[str, str]:
        return {key: value.string_value for key, value in self.config.parameters.items()}

    def fault(self, finding: Finding) -> Fault:
        return Fault(self.label, self.name, finding.tensor, finding.rule)


def data_type(declared: Any) -> str:
    """The name of a data type in a config, such as `TYPE_FP32`."""
    return model_config_pb2.DataType.Name(declared.data_type)


def profiles(repository: Path) -> list[str]:
    """The default and every folder of `ensemble_configs/` beside the repository."""
    folder = repository.resolve().parent / PROFILES
    return [DEFAULT_PROFILE, *sorted(entry.name for entry in folder.glob("*") if entry.is_dir())]


def load(repository: Path, profile: str, artifacts: Path | None) -> tuple[dict[str, Model], list[Fault]]:
    """Every model of the repository under a profile, by name, and a fault for each config that cannot be parsed.

    The models of concept prompts, and the configs that a profile has for them, count if the set includes them.

    `artifacts`, if given, has a folder for each exported model, which replaces the model's version folder.
    """
    root = repository.resolve().parent
    exported = artifacts or repository.resolve() / installation.EXPORTS / installation.CURRENT
    folders = {path.parent.name: path.parent for path in sorted(repository.resolve().glob("*/config.pbtxt"))}
    of_concepts = {path.parent.name: path.parent for path in (repository.resolve() / CONCEPTS).glob("*/config.pbtxt")}
    folders = {name: folder for name, folder in folders.items() if name not in of_concepts}
    configs = [root / PROFILES / profile]
    if any((exported / name).is_dir() for name in of_concepts):
        folders |= of_concepts
        configs.insert(0, root / PROFILES / profile / CONCEPTS.name)
    models: dict[str, Model] = {}
    faults = []
    for name, folder in sorted(folders.items()):
        own = (path / f"{name}.pbtxt" for path in configs)
        path = next((path for path in own if path.is_file()), folder / "config.pbtxt")
        label = str(path.relative_to(root))
        try:
            config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            faults.append(Fault(label, name, "", f"Triton cannot parse this config ({error})"))
        else:
            version = folder / "1"
            if artifacts is not None and config.backend in EXPORTED:
                version = artifacts / name
            models[name] = Model(name, label, config, version)
    return models, faults
