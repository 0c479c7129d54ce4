"""The model that a server runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ServedModel:
    """The model that a server runs, as `sam3-export` recorded it.

    Attributes:
        name: "SAM 3" or "SAM 3.1".
        checkpoint_sha256: of the exported checkpoint, in hex.
    """

    name: str
    checkpoint_sha256: str

    @classmethod
    def of(cls, tensor: np.ndarray) -> ServedModel:
        """Reads the output `MODEL`, object [2]."""
        name, checkpoint_sha256 = (value.decode() for value in tensor.tolist())
        return cls(name, checkpoint_sha256)

    def __str__(self) -> str:
        return f"{self.name}, checkpoint {self.checkpoint_sha256[:12]}..."
