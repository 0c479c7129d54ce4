"""What a Triton tells about itself, over gRPC and HTTP alike."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from sam3_triton.errors import PredictionError, Sam3Error
from sam3_triton.extras import http_module
from sam3_triton.triton_errors import translating
from sam3_triton.wire import Address


class Inspector:
    """Asks a server for its metadata, its models and their configs; every method raises this package's errors alone."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """
        Args:
            timeout_s: of each question.
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
        """`name`, `version` and `extensions` of the server."""
        return self._dictionary(self._ask(self._client.get_server_metadata, **self._json))

    def is_live(self) -> bool:
        """Whether the server calls itself live."""
        return bool(self._ask(self._client.is_server_live, **self._plain))

    def is_ready(self) -> bool:
        """Whether the server calls itself ready, which it does even where a model's process has died."""
        return bool(self._ask(self._client.is_server_ready, **self._plain))

    def models(self) -> list[dict[str, str]]:
        """The repository index: `name`, and where they have been loaded, or should have been, `state` and `reason`."""
        index = self._ask(self._client.get_model_repository_index, **self._json)
        models: list[dict[str, str]] = index.get("models", []) if isinstance(index, dict) else index
        return models

    def config(self, model: str) -> dict[str, Any]:
        """A model's config as it was loaded, completed by Triton; integers may be strings, zeros may be left out."""
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
            raise PredictionError(f"what listens at {self._address.netloc} is no Triton ({error})") from error

    def _dictionary(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise PredictionError(f"what listens at {self._address.netloc} is no Triton")
        return answer
