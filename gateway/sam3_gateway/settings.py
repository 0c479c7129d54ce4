"""What an operator can set, by environment (`SAM3_GATEWAY_...`) or by flag."""

from __future__ import annotations

import sys

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError
from sam3_triton.client import DEFAULT_TIMEOUT_S, DEFAULT_URL

# The contract of existing callers names this port.
DEFAULT_PORT = 8001
_PREFIX = "SAM3_GATEWAY_"


class Settings(BaseSettings):
    """Serve SAM 3 over HTTP: a page to click on at /, POST /predict/mask and GET /health for existing callers, all
    candidates and more under /v1/, descriptions at /docs, Prometheus metrics at /metrics.

    Each setting can be given in the environment too: SAM3_GATEWAY_TRITON, SAM3_GATEWAY_API_KEY, and so on.
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

    triton: str = Field(DEFAULT_URL, description="Triton: host:port (gRPC), or http://host:port")
    host: str = Field("127.0.0.1", description="the address to listen on; 0.0.0.0 for all")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="the port to listen on")
    timeout_s: PositiveFloat = Field(DEFAULT_TIMEOUT_S, description="seconds that Triton may take for one request")
    upload_timeout_s: PositiveFloat = Field(60.0, description="seconds that a caller may take to send its request")
    max_in_flight: PositiveInt = Field(
        32, description="requests at one time, uploads included; more are refused with 503 and Retry-After"
    )
    max_body_bytes: PositiveInt = Field(32 * 2**20, description="the largest request; a larger one is refused with 413")
    max_pixels: PositiveInt = Field(
        64_000_000,
        description="the largest image, width x height; a larger one is refused with 413 before it is decoded",
    )
    max_points: PositiveInt = Field(100, description="the most points in one request; more are refused with 400")
    api_key: SecretStr | None = Field(
        None, description="wanted in the header X-API-Key of each POST (better given in the environment than as a flag)"
    )
    shared_memory: bool = Field(
        False, description="images go to Triton through /dev/shm, which it must share with the gateway"
    )
    cors_origins: str = Field(
        "*", description="origins, with commas between, whose pages may call; * for all, an empty text for none"
    )

    @property
    def origins(self) -> list[str]:
        """`cors_origins` as a list."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def read(arguments: list[str]) -> Settings:
    """The settings of the environment and of flags, which come first.

    Raises:
        SystemExit: with 0 after --help; with 2 after one line for each value that makes no sense.
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
