"""Profiles: the configs in `ensemble_configs/<profile>/`, which replace the repository's own in one deployment.

Those in `ensemble_configs/<profile>/concepts/` apply only to a repository with concept prompts, and there come first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sam3_server.cores import usable_cores
from sam3_server.errors import ServerError
from sam3_server.layout import CONCEPT_MODEL, CURRENT, REPORT
from sam3_server.preprocess_instances import CACHE, PREPROCESS, with_instances

CONFIGS = "ensemble_configs"
_FOR_CONCEPTS = "concepts"
# ONNX Runtime reads 0 as all cores of the host, even in a container that may use only some of them.
_ALL_CORES = re.compile(r'(key: *"intra_op_thread_count" *value *\{ *string_value: *")0(")')

_DECODER = "sam3_mask_decoder"
# Side of the encoder's input in pixels from which the decoder gains more from several threads than they cost.
# ONNX Runtime's idle threads spin, and Triton's backend of 24.10 cannot turn that off: with two threads instead of one,
# a click every 200 ms took 33 ms of CPU instead of 3.6 with the demonstration model (252 pixels), at the same latency
# (docs/profiles.md, "Threads of the mask decoder").
_LARGE_IMAGE = 504

# ONNX Runtime looks up an engine by the names of file and tensors, whatever the weights.
_ENGINES = re.compile(r'(key: *"trt_engine_cache_path" *value: *"[^"]*)(")')


def configs(repository: Path, profile: str) -> dict[str, Path]:
    """The configs of a profile that apply to a repository, by model.

    Raises:
        ServerError: the profile does not exist.
    """
    repository = repository.resolve()
    folder = repository.parent / CONFIGS
    found = _by_model(folder / profile)
    if not found:
        known = sorted(entry.name for entry in folder.glob("*") if entry.is_dir()) or ["none"]
        raise ServerError(f"no profile {profile!r} in {folder}; there are: {', '.join(known)}")
    if (repository / CONCEPT_MODEL).is_dir():
        found |= _by_model(folder / profile / _FOR_CONCEPTS)
    return found


def lay_out(repository: Path, profile: str, folder: Path) -> None:
    """Fills an empty folder with links to the repository, and with a profile's configs instead of its own.

    The repository is not changed, so it may be mounted read-only and be served with several profiles at one time.
    Unlike with `--model-config-name`, Triton never silently falls back to a model's own config if a file is missing.

    Raises:
        ServerError: the profile does not exist, or names a model that the repository lacks.
    """
    repository = repository.resolve()
    replacements = configs(repository, profile)
    for config in replacements.values():
        if not (repository / config.stem).is_dir():
            raise ServerError(f"{config} is for a model that {repository} does not have")
    cache = replacements.get(CACHE, repository / CACHE / "config.pbtxt")
    own = repository / PREPROCESS / "config.pbtxt"
    if own.is_file():  # no profile has one of its own, but its instances follow the cores
        replacements.setdefault(PREPROCESS, own)
    for model in (entry for entry in repository.iterdir() if entry.is_dir()):
        if model.name not in replacements:
            # A Python model reads ../sam3/exports; through this link, `..` is the repository itself.
            (folder / model.name).symlink_to(model)
            continue
        (folder / model.name).mkdir()
        for entry in model.iterdir():
            if entry.name != "config.pbtxt":
                (folder / model.name / entry.name).symlink_to(entry)
        threads = _decoder_threads(repository) if model.name == _DECODER else usable_cores()
        text = _for_this_export(_with_threads(replacements[model.name].read_text(), threads), repository)
        if model.name == PREPROCESS:
            text = with_instances(text, cache.read_text(), usable_cores())
        (folder / model.name / "config.pbtxt").write_text(text)


def _with_threads(config: str, threads: int) -> str:
    """Sets the number of threads, if the config leaves it to ONNX Runtime."""
    return _ALL_CORES.sub(rf"\g<1>{threads}\g<2>", config)


def _decoder_threads(repository: Path) -> int:
    """One for a small mask decoder, else one for each usable core."""
    report = json.loads((repository / REPORT).read_text())
    return 1 if report["image_size"] < _LARGE_IMAGE else usable_cores()


def _for_this_export(config: str, repository: Path) -> str:
    """Gives TensorRT's engines a folder for each export, so that none is used for another export."""
    export = (repository / CURRENT).resolve().name
    return _ENGINES.sub(rf"\g<1>/{export}\g<2>", config)


def _by_model(folder: Path) -> dict[str, Path]:
    return {config.stem: config for config in folder.glob("*.pbtxt")}
