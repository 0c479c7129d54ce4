"""Optional dependencies, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from sam3_triton.errors import MissingExtraError


def http_module(name: str) -> ModuleType:
    """Imports a module that Triton's HTTP endpoint needs.

    Raises:
        MissingExtraError: the extra `http` is not installed.
    """
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # tritonclient raises RuntimeError for it
        raise MissingExtraError(
            "Triton's HTTP endpoint needs the extra `http`: pip install './client[http]', or use gRPC (host:port)"
        ) from error
