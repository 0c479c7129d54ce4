"""Checks a model repository against the rules of Triton's own C++ backends, which the stand-ins do not enforce.

Triton's core refuses ensembles, warm-ups and other fields that are wrong when it loads a model, with any backend, so
there are no rules for those here (tests/live/test_core_refuses.py). docs/native-backends.md names the source of each
rule. The rules are those of Triton 24.10 (2.51), with ONNX Runtime 1.19 and PyTorch 2.5. Later releases accept
everything that is accepted here; what they add is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sam3_export import installation
from sam3_export.native_backends import onnxruntime_rules, parameters, pytorch_rules
from sam3_export.native_backends.repository import EXPORTED, Fault, Finding, Findings, Model, load, profiles

__all__ = ["Fault", "check"]


def check(repository: Path, artifacts: Path | None = None) -> list[Fault]:
    """Finds what Triton's native backends would refuse or silently ignore in the repository and its profiles.

    Args:
        repository: `model_repository/`, with `ensemble_configs/` beside it.
        artifacts: a set that is not installed yet, with a folder for each exported model. Profiles that name a file
            outside the set are skipped. None: the installed set, in which every file must exist.

    Profiles for networks of another size (the parameter `image_size`) are skipped as well.
    """
    readers = {"onnxruntime": cache(onnxruntime_rules.read), "pytorch": cache(pytorch_rules.read)}
    faults: list[Fault] = []
    for profile in profiles(repository):
        models, unparsed = load(repository, profile, artifacts)
        faults += unparsed
        exported = [model for model in models.values() if model.config.backend in EXPORTED]
        if artifacts is not None and not all(model.file.is_file() for model in exported):
            continue
        if _for_another_size(models, artifacts or repository / installation.EXPORTS / installation.CURRENT):
            continue
        faults += _profile(models, readers)
    return list(dict.fromkeys(faults))


def _for_another_size(models: Mapping[str, Model], export: Path) -> bool:
    sizes = {model.parameters["image_size"] for model in models.values() if "image_size" in model.parameters}
    return bool(sizes) and sizes != {str(json.loads((export / "export.json").read_text())["image_size"])}


def _profile(models: Mapping[str, Model], readers: Mapping) -> list[Fault]:
    faults = [model.fault(finding) for model in models.values() for finding in _model(model, readers)]
    return faults + [model.fault(finding) for model, finding in pytorch_rules.together(models.values())]


def _model(model: Model, readers: Mapping) -> Findings:
    backend = model.config.backend
    if model.is_ensemble:
        return
    if not backend:
        yield Finding("no backend: Triton would guess one from the name of the file")
    elif not model.file.is_file():
        yield Finding(f"the file {model.file.name} is missing")
    elif backend == "python":
        yield from _python(model)
    elif backend in EXPORTED:
        try:
            file = readers[backend](model.file)
        except ValueError as error:
            yield Finding(str(error))
        else:
            rules = onnxruntime_rules if backend == "onnxruntime" else pytorch_rules
            yield from rules.findings(model, file)


def _python(model: Model) -> Findings:
    """The Python backend reads two parameters; the model's own code must name all others."""
    sources = "\n".join(path.read_text() for path in sorted(model.folder.glob("*.py")))
    known = {**parameters.PYTHON, **parameters.OWN}
    own = {name for name in model.parameters if name not in known and f'"{name}"' in sources}
    given = {name: value for name, value in model.parameters.items() if name not in own}
    for rule in parameters.misread(given, known, "the Python backend"):
        yield Finding(rule)
