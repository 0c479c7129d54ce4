"""Chooses a profile by what the machine has and which artifacts are installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from sam3_triton.cpu import bf16_instructions, int8_instructions
from tritonclient.grpc import model_config_pb2

from sam3_server import gpus, profiles, runtimes
from sam3_server.errors import ServerError

# Best first. `tensorrt` builds engines for minutes, and `cpu-int8` changes masks most: both only if asked for.
FOR_GPUS = ("gpu", "torchscript-gpu", "torchscript-gpu-bf16")
FOR_CPUS = ("cpu-bf16", "cpu", "torchscript")
_BF16_ON_CPU, _INT8 = "cpu-bf16", "cpu-int8"
# The file that a backend serves if the config names none; also those of this project's exported models.
_DEFAULT_FILES = {"onnxruntime": "model.onnx", "pytorch": "model.pt"}


@dataclass(frozen=True)
class Choice:
    """A profile and why it was chosen."""

    profile: str
    reason: str


@dataclass(frozen=True)
class Needs:
    """What a profile needs: backends of exported models, artifacts as paths in the repository, and a GPU or not."""

    backends: tuple[str, ...]
    artifacts: tuple[Path, ...]
    gpu: bool


def needs(repository: Path, profile: str) -> Needs:
    """What the configs of a profile say that it needs.

    Raises:
        ServerError: the profile does not exist, or one of its configs cannot be read.
    """
    backends, artifacts, gpu = [], [], False
    for model, path in sorted(profiles.configs(repository, profile).items()):
        try:
            config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            raise ServerError(f"{path}: {error}") from error
        gpu |= any(group.kind == group.KIND_GPU for group in config.instance_group)
        if config.backend in _DEFAULT_FILES:
            backends.append(config.backend)
            file = config.default_model_filename or _DEFAULT_FILES[config.backend]
            artifacts.append(Path(model) / "1" / file)
    return Needs(tuple(dict.fromkeys(backends)), tuple(artifacts), gpu)


def choose(repository: Path, candidates: Sequence[str] = (*FOR_GPUS, *FOR_CPUS)) -> Choice:
    """The first profile whose artifacts are installed and that this machine can run.

    Args:
        candidates: profiles, best first.

    Raises:
        ServerError: there is none; the message says what each one lacks.
    """
    found = gpus.find()
    for_gpus = set(candidates) & set(FOR_GPUS)
    rejected: list[str] = [found.reason] if for_gpus and not found.names else []
    for profile in candidates:
        if profile in for_gpus and not found.names:
            continue
        if not (repository.resolve().parent / profiles.CONFIGS / profile).is_dir():
            continue
        obstacle = _obstacle(repository, profile)
        if obstacle is None:
            return Choice(profile, "; ".join([_merit(repository, profile, found), *rejected]))
        rejected.append(f"not {profile}: {obstacle}")
    raise ServerError(f"none of the profiles {', '.join(candidates)} can be served: {'; '.join(rejected)}")


def check_needs(repository: Path, profile: str) -> None:
    """Checks that a profile's artifacts are installed, and that there is the GPU or the CPU that it needs.

    Triton's own messages depend on the backend, and for a GPU do not name the fault. A CPU that int8 overflows on
    answers with wrong masks, without an error.

    Raises:
        ServerError: one of these is missing, or there is no such profile.
    """
    wanted = needs(repository, profile)
    if profile == _INT8 and int8_instructions() is None:
        raise ServerError(f"the profile {profile} needs a CPU with VNNI or AMX: on this one, masks would be wrong")
    if wanted.gpu and not (found := gpus.find()).names:
        raise ServerError(f"the profile {profile} needs a GPU, but {found.reason}")
    for path in wanted.artifacts:
        if not (repository / path).is_file():
            raise ServerError(f"{repository / path} is missing, which the profile {profile} needs; run sam3-export")


def _obstacle(repository: Path, profile: str) -> str | None:
    """What keeps a profile from being served here."""
    wanted = needs(repository, profile)
    missing = {path.name for path in wanted.artifacts if not (repository / path).is_file()}
    if missing:
        return f"{', '.join(sorted(missing))} is not installed"
    if profile == _BF16_ON_CPU and bf16_instructions() is None:
        return "this CPU has neither AMX nor AVX512-BF16"
    faults = (runtimes.fault(backend, wanted.gpu) for backend in wanted.backends)
    return next((fault for fault in faults if fault), None)


def _merit(repository: Path, profile: str, found: gpus.Gpus) -> str:
    """What speaks for a profile."""
    files = " and ".join(sorted({path.name for path in needs(repository, profile).artifacts}))
    if profile in FOR_GPUS:
        return f"there is a GPU ({found.names[0]}), and {files} is installed"
    instructions = f"this CPU has {bf16_instructions()}, and " if profile == _BF16_ON_CPU else ""
    return f"{instructions}{files} is installed"
