"""Profiles: what `ensemble_configs/<profile>/` changes in the repository for one way of deploying."""

from __future__ import annotations

from pathlib import Path

from sam3_server.errors import ServerError

CONFIGS = "ensemble_configs"


def install(repository: Path, profile: str) -> list[str]:
    """Lays the configs of a profile beside the models, where Triton's `--model-config-name` looks for them.

    Returns: the models that the profile changes.

    Raises:
        ServerError: there is no such profile, or it names a model that the repository lacks.
    """
    profiles = repository.resolve().parent / CONFIGS
    folder = profiles / profile
    configs = sorted(folder.glob("*.pbtxt"))
    if not configs:
        known = sorted(entry.name for entry in profiles.glob("*") if entry.is_dir()) or ["none"]
        raise ServerError(f"no profile {profile!r} in {profiles}; there are: {', '.join(known)}")
    for config in configs:
        model = repository / config.stem
        if not model.is_dir():
            raise ServerError(f"{config} is for a model that {repository} does not have")
        installed = model / "configs" / f"{profile}.pbtxt"
        if not installed.exists() or installed.read_bytes() != config.read_bytes():
            installed.parent.mkdir(exist_ok=True)
            fresh = installed.with_suffix(".new")
            fresh.write_bytes(config.read_bytes())
            fresh.replace(installed)
    return [config.stem for config in configs]
