"""The gateway's answers match its OpenAPI document, for valid and invalid requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from processes import run_gateway
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

load_all_checks()


@pytest.fixture(scope="module")
def concept_gateway(serve, exported_concepts: Path) -> Iterator[str]:
    """The URL of a gateway in front of a server with concept prompts."""
    with run_gateway(serve(exported_concepts).grpc_url) as url:
        yield url


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("which", ["gateway", "concept_gateway"])
def test_answers_are_as_described(request: pytest.FixtureRequest, which: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{request.getfixturevalue(which)}/openapi.json")
    paths = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if which == "concept_gateway" and operation.path != "/v1/concepts":
            continue
        paths.add(operation.path)

        @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: schemathesis.Case) -> None:
            # Text that fits the schema may still be an invalid image or prompt, so 400 is a correct answer.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        if mode is GenerationMode.POSITIVE or operation.body:  # without parameters, no request is invalid
            holds()
    expected = {"/predict/mask", "/health", "/health/ready", "/v1/images", "/v1/predict", "/v1/concepts"}
    assert paths >= (expected if which == "gateway" else {"/v1/concepts"})


def test_every_field_is_described(gateway: str) -> None:
    document = requests.get(f"{gateway}/openapi.json", timeout=30).json()
    for path in ("/predict/mask", "/v1/predict", "/v1/images", "/v1/concepts"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        fields = document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]["properties"]
        assert "image" in fields
        assert all(field.get("description") for field in fields.values())
    assert "422" not in document["paths"]["/predict/mask"]["post"]["responses"]
