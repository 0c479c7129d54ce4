"""The gateway's settings, from environment variables (`SAM3_GATEWAY_...`) or flags."""

from __future__ import annotations

import sys

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError
from sam3_triton.client import DEFAULT_TIMEOUT_S, DEFAULT_URL

from sam3_gateway import picture_formats

# Existing callers expect this port.
DEFAULT_PORT = 8001
_PREFIX = "SAM3_GATEWAY_"


class Settings(BaseSettings):
    """Serve SAM 3 over HTTP: a web page at /, the simple API (POST /predict/mask, GET /health), the full API under
    /v1/, their description at /docs, Prometheus metrics at /metrics.

    Each flag can also be set as an environment variable: SAM3_GATEWAY_TRITON, SAM3_GATEWAY_API_KEY, and so on.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        cli_prog_name="sam3-gateway",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
        extra="forbid",
    )

    triton: str = Field(DEFAULT_URL, description="Triton's address: host:port (gRPC) or http://host:port")
    host: str = Field("127.0.0.1", description="the address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="the port to listen on")
    timeout_s: PositiveFloat = Field(DEFAULT_TIMEOUT_S, description="seconds that Triton may take for one request")
    header_timeout_s: PositiveFloat = Field(
        10.0, description="seconds that a caller may take to send a request's headers; then its connection is closed"
    )
    upload_timeout_s: PositiveFloat = Field(60.0, description="seconds that a caller may take to send its request")
    max_connections: PositiveInt = Field(
        512, description="connections at one time, idle ones included; more are closed at once"
    )
    max_in_flight: PositiveInt = Field(
        32, description="POST requests in flight, uploads included; more are refused with 503 and Retry-After"
    )
    max_body_bytes: PositiveInt = Field(
        32 * 2**20, description="the largest request, in bytes; larger ones are refused with 413"
    )
    max_pixels: PositiveInt = Field(
        64_000_000,
        description="the largest image, width x height; larger ones are refused with 413 before they are decoded",
    )
    picture_formats: str = Field(
        picture_formats.DEFAULT,
        description="the formats of images, by Pillow's names, separated by commas; others are refused with 415",
    )
    max_points: PositiveInt = Field(100, description="the most points of one object; more are refused with 400")
    api_key: SecretStr | None = Field(
        None,
        description="key that each POST must send in the header X-API-Key (safer as an environment variable)",
    )
    shared_memory: bool = Field(
        False, description="send images to Triton through /dev/shm, which the gateway and Triton must share"
    )
    cors_origins: str = Field(
        "*", description="origins whose pages may call the gateway, separated by commas; * for all, empty for none"
    )

    @field_validator("picture_formats")
    @classmethod
    def _known(cls, text: str) -> str:
        try:
            picture_formats.parse(text)
        except ValueError as error:
            raise PydanticCustomError("picture_formats", "{fault}", {"fault": str(error)}) from error
        return text

    @property
    def formats(self) -> tuple[str, ...]:
        """`picture_formats` as a list."""
        return picture_formats.parse(self.picture_formats)

    @property
    def origins(self) -> list[str]:
        """`cors_origins` as a list."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def read(arguments: list[str]) -> Settings:
    """Reads the settings. Flags override environment variables.

    Raises:
        SystemExit: with 0 after --help; with 2 after one line for each invalid value.
    """
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            flag = f"--{name.replace('_', '-')} ({_PREFIX}{name.upper()})"
            print(f"sam3-gateway: {flag}: {fault['msg']}, not {fault['input']!r}", file=sys.stderr)
        raise SystemExit(2) from error
    except SettingsError as error:
        print(f"sam3-gateway: {error}", file=sys.stderr)
        raise SystemExit(2) from error
