"""Profiles: the configs in `ensemble_configs/<profile>/`, which replace the repository's own in one deployment.

Those in `ensemble_configs/<profile>/concepts/` apply only to a repository with concept prompts, and there come first.
"""

from __future__ import annotations

import re
from pathlib import Path

from sam3_server.cores import usable_cores
from sam3_server.errors import ServerError
from sam3_server.layout import CONCEPT_MODEL, CURRENT

CONFIGS = "ensemble_configs"
_FOR_CONCEPTS = "concepts"
# ONNX Runtime reads 0 as all cores of the host, even in a container that may use only some of them.
_ALL_CORES = re.compile(r'(key: *"intra_op_thread_count" *value *\{ *string_value: *")0(")')

# ONNX Runtime looks up an engine by the names of file and tensors, whatever the weights.
_ENGINES = re.compile(r'(key: *"trt_engine_cache_path" *value: *"[^"]*)(")')


def lay_out(repository: Path, profile: str, folder: Path) -> None:
    """Fills an empty folder with links to the repository, and with a profile's configs instead of its own.

    The repository is not changed, so it may be mounted read-only and be served with several profiles at one time.
    Unlike with `--model-config-name`, Triton never silently falls back to a model's own config if a file is missing.

    Raises:
        ServerError: the profile does not exist, or names a model that the repository lacks.
    """
    repository = repository.resolve()
    configs = _configs(repository.parent / CONFIGS, profile)
    if (repository / CONCEPT_MODEL).is_dir():
        configs |= _by_model(repository.parent / CONFIGS / profile / _FOR_CONCEPTS)
    for config in configs.values():
        if not (repository / config.stem).is_dir():
            raise ServerError(f"{config} is for a model that {repository} does not have")
    for model in (entry for entry in repository.iterdir() if entry.is_dir()):
        if model.name not in configs:
            # A Python model reads ../sam3/exports; through this link, `..` is the repository itself.
            (folder / model.name).symlink_to(model)
            continue
        (folder / model.name).mkdir()
        for entry in model.iterdir():
            if entry.name != "config.pbtxt":
                (folder / model.name / entry.name).symlink_to(entry)
        text = _for_this_export(_for_this_machine(configs[model.name].read_text()), repository)
        (folder / model.name / "config.pbtxt").write_text(text)


def _for_this_machine(config: str) -> str:
    """Sets one thread for each usable core, if the config leaves their number to ONNX Runtime."""
    return _ALL_CORES.sub(rf"\g<1>{usable_cores()}\g<2>", config)


def _for_this_export(config: str, repository: Path) -> str:
    """Gives TensorRT's engines a folder for each export, so that none is used for another export."""
    export = (repository / CURRENT).resolve().name
    return _ENGINES.sub(rf"\g<1>/{export}\g<2>", config)


def _configs(profiles: Path, profile: str) -> dict[str, Path]:
    """A profile's configs, by model."""
    configs = _by_model(profiles / profile)
    if not configs:
        known = sorted(entry.name for entry in profiles.glob("*") if entry.is_dir()) or ["none"]
        raise ServerError(f"no profile {profile!r} in {profiles}; there are: {', '.join(known)}")
    return configs


def _by_model(folder: Path) -> dict[str, Path]:
    return {config.stem: config for config in folder.glob("*.pbtxt")}
