"""Changes configs of the repository and runs the checker on them."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam3_export.native_backends import check

ENCODER, DECODER = "sam3_image_encoder", "sam3_mask_decoder"
DEFAULT = "model_repository/{}/config.pbtxt"
ENCODER_CONFIG, DECODER_CONFIG = DEFAULT.format(ENCODER), DEFAULT.format(DECODER)
CACHE_CONFIG = DEFAULT.format("sam3_embedding_cache")
TORCHSCRIPT_ENCODER, TORCHSCRIPT_DECODER = (
    f"ensemble_configs/torchscript/{model}.pbtxt" for model in (ENCODER, DECODER)
)


def edit(repository: Path, config: str, *changes: tuple[str, str]) -> None:
    """Replaces texts in a config, each of which must occur."""
    path = repository.parent / config
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def append(repository: Path, config: str, text: str) -> None:
    """Adds a field at the end of a config."""
    with (repository.parent / config).open("a") as file:
        file.write(text + "\n")


def own_artifacts(repository: Path, model: str) -> Path:
    """Replaces the artifacts that a repository shares by copies, and returns their folder."""
    folder = repository / model / "1"
    files = folder.resolve()
    folder.unlink()
    shutil.copytree(files, folder)
    return folder


def faults(repository: Path) -> list[str]:
    """The faults that the checker finds, a line each."""
    return [str(fault) for fault in check(repository)]
