"""The gateway without a Triton, or without a free port."""

from __future__ import annotations

import io
import socket

import golden
import pytest
import requests
from processes import run_gateway
from repository import free_ports
from sam3_gateway.cli import main
from sam3_triton import Sam3Client, ServerUnavailableError


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_service_other_than_triton_is_reported(nobody: str) -> None:
    with run_gateway(nobody) as url, Sam3Client(url) as client:
        with pytest.raises(ServerUnavailableError, match="the server there is not a Triton") as caught:
            client.predict(golden.FOLDER / "rocket.png", points=[[1, 1]])
        assert "\n" not in str(caught.value)


def test_a_gateway_whose_port_is_taken_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in capsys.readouterr().err


def test_the_gateway_runs_without_a_model_and_answers_503(nobody: str) -> None:
    with run_gateway(nobody) as url:
        health = requests.get(f"{url}/health", timeout=30)
        assert health.status_code == 200
        assert health.json() == {"status": "running", "model_loaded": False, "model": None}
        photo = io.BytesIO((golden.FOLDER / "rocket.png").read_bytes())
        answer = requests.post(f"{url}/predict/mask", files={"image": photo}, data={"points": "[[1, 1]]"}, timeout=30)
        assert answer.status_code == 503
        assert "no Triton at" in answer.json()["detail"]
