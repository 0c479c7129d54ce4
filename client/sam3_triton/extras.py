"""Optional dependencies, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from sam3_triton.errors import InvalidInputError, MissingExtraError

_EXTRAS_OF_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


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


def filesystem_of(url: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL such as `s3://bucket/photos`, and the path in it.

    Raises:
        MissingExtraError: fsspec, or its package for such URLs, is not installed.
        InvalidInputError: fsspec does not know such URLs.
    """
    scheme = url.partition("://")[0]
    extra = _EXTRAS_OF_SCHEMES.get(scheme)
    advice = f"the extra `{extra}`: pip install './client[{extra}]'" if extra else "fsspec's package for it"
    try:
        core = import_module("fsspec.core")
        files, path = core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs {advice} ({error})") from error
    except ValueError as error:
        raise InvalidInputError(f"{url}: {error}") from error
    return files, path
