"""Reads a Triton server's metadata, models and configs, over gRPC or HTTP."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from sam3_triton.errors import PredictionError, Sam3Error
from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import Address


class Inspector:
    """Reads a server's metadata, models and configs. All methods raise only this package's errors."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """
        Args:
            timeout_s: timeout of each request, in seconds.
        """
        self._address = address
        self._timeout_s = timeout_s
        self._broken: tuple[type[Exception], ...] = ()
        self._client, self._plain, self._json = self._connected()

    def _connected(self) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        address, timeout_s = self._address, self._timeout_s
        if address.grpc:
            from tritonclient import grpc

            client = grpc.InferenceServerClient(address.netloc, ssl=address.tls)
            return client, {"client_timeout": timeout_s}, {"client_timeout": timeout_s, "as_json": True}
        self._broken = (http_module("geventhttpclient.response").HTTPParseError,)
        client = http_module("tritonclient.http").InferenceServerClient(
            address.netloc, ssl=address.tls, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        return client, {}, {}

    def __enter__(self) -> Inspector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def metadata(self) -> dict[str, Any]:
        """Returns `name`, `version` and `extensions` of the server."""
        return self._dictionary(self._ask(self._client.get_server_metadata, **self._json))

    def is_live(self) -> bool:
        """Whether the server reports that it is live."""
        return bool(self._ask(self._client.is_server_live, **self._plain))

    def is_ready(self) -> bool:
        """Whether the server reports that it is ready, which it does even if a model's process has died."""
        return bool(self._ask(self._client.is_server_ready, **self._plain))

    def models(self) -> list[dict[str, str]]:
        """Returns the repository index: `name`, plus `state` and `reason` if loading was attempted."""
        index = self._ask(self._client.get_model_repository_index, **self._json)
        models: list[dict[str, str]] = index.get("models", []) if isinstance(index, dict) else index
        return models

    def config(self, model: str) -> dict[str, Any]:
        """Returns a model's config as loaded and completed by Triton. Integers may be strings; zeros may be missing."""
        answer = self._dictionary(self._ask(self._client.get_model_config, model, **self._json))
        config: dict[str, Any] = answer.get("config", answer)
        return config

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            with translating(self._address.netloc, self._timeout_s, self._broken):
                return method(*arguments, **options)
        except Sam3Error:
            raise
        except ValueError as error:  # not JSON
            raise PredictionError(f"the server at {self._address.netloc} is not a Triton ({error})") from error

    def _dictionary(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise PredictionError(f"the server at {self._address.netloc} is not a Triton")
        return answer
