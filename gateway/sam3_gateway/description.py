"""Corrects the OpenAPI document to match how the routes behave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI


def describe(app: FastAPI, with_key: bool) -> None:
    """Corrects the OpenAPI document that FastAPI generates for an application.

    Invalid requests are answered with 400 instead of 422, and the API key is checked by a middleware, which FastAPI
    does not document.
    """
    generated: Callable[[], dict[str, Any]] = app.openapi

    def corrected() -> dict[str, Any]:
        if app.openapi_schema:  # generated and corrected earlier
            return app.openapi_schema
        document = generated()
        for path in document["paths"].values():
            for method, operation in path.items():
                operation["responses"].pop("422", None)
                if with_key and method == "post":
                    operation["security"] = [{"key": []}]
        components = document["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        if with_key:
            components["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
        return document

    app.openapi = corrected  # type: ignore[method-assign]
