"""Checks a model repository against the rules of Triton's own C++ backends, which the stand-ins do not enforce.

docs/native-backends.md says where each rule was read. The rules are those of Triton 24.10 (2.51), with ONNX Runtime
1.19 and PyTorch 2.5. Later releases read all that is accepted here; what they add is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sam3_export import installation
from sam3_export.native_backends import core_rules, ensemble_rules, onnxruntime_rules, parameters, pytorch_rules
from sam3_export.native_backends.repository import EXPORTED, Fault, Finding, Findings, Model, Signature, load, profiles

__all__ = ["Fault", "check"]


def check(repository: Path, artifacts: Path | None = None) -> list[Fault]:
    """What Triton's native backends would refuse, or silently not do, in the repository and the profiles beside it.

    Args:
        repository: `model_repository/`, with `ensemble_configs/` beside it.
        artifacts: a set that is not installed yet, a folder for each exported model. Profiles that want a file which
            is not in it are left out. None: what is installed, and every file must be there.

    Profiles for networks of another size (the parameter `image_size`) are left out as well.
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
    faults: list[Fault] = []
    signatures: dict[str, Signature] = {}
    for name, model in models.items():
        faults += map(model.fault, core_rules.findings(model))
        try:
            signature, found = _backend(model, readers)
        except ValueError as error:  # of a file that cannot be read
            faults.append(model.fault(Finding(str(error))))
            continue
        faults += map(model.fault, found)
        if signature is not None:
            signatures[name] = signature
            faults += map(model.fault, core_rules.warmup(model, signature))
    for model in models.values():
        if model.is_ensemble:
            faults += map(model.fault, ensemble_rules.findings(model, models, signatures))
    for model, finding in (*core_rules.shared_resources(models.values()), *pytorch_rules.together(models.values())):
        faults.append(model.fault(finding))
    return faults


def _backend(model: Model, readers: Mapping) -> tuple[Signature | None, Findings]:
    """The model's tensors once it is loaded, None where the file is missing; and its backend's findings."""
    backend = model.config.backend
    if backend == "python":
        return model.declared(), _python(model)
    if backend not in EXPORTED:
        return model.declared(), iter(())
    if not model.file.is_file():
        return None, iter(())
    file = readers[backend](model.file)
    if backend == "pytorch":
        return model.declared(), pytorch_rules.findings(model, file)
    return onnxruntime_rules.signature(model, file), onnxruntime_rules.findings(model, file)


def _python(model: Model) -> Findings:
    """The Python backend reads two parameters; all others are for the model's own code, which names them."""
    sources = "\n".join(path.read_text() for path in sorted(model.folder.glob("*.py")))
    others = {}
    for name, value in model.parameters.items():
        if name in parameters.PYTHON or name in parameters.OWN:
            others[name] = value
        elif f'"{name}"' not in sources:
            yield Finding(f"neither the Python backend nor the model's code reads the parameter {name!r}")
    for rule in parameters.misread(others, {**parameters.PYTHON, **parameters.OWN}, "the Python backend"):
        yield Finding(rule)
