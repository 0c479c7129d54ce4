"""Errors when there is no server."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import golden
import pytest
from repository import free_ports
from sam3_triton import (
    ClosedClientError,
    InvalidUrlError,
    NoServerError,
    Sam3Client,
    ServerUnavailableError,
    get_mask_from_sam,
)
from sam3_triton.cli import main
from sam3_triton.triton_errors import translated
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def nobody() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_client_says_so(nobody: str, scheme: str) -> None:
    with Sam3Client(f"{scheme}://{nobody}") as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError, match=f"no Triton at {nobody}"):
            client.predict(golden.FOLDER / "rocket.png", points=[[1, 1]])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses"),
        ("StatusCode.UNAVAILABLE", "Stream removed (sendmsg: Broken pipe (32))"),
        ("StatusCode.UNAVAILABLE", "Received http2 header with status: 503"),
        ("StatusCode.UNAVAILABLE", "ping timeout"),
        ("StatusCode.UNAVAILABLE", "Cancelling all calls"),
        ("StatusCode.UNKNOWN", "Stream removed (Data frame with END_STREAM flag received)"),
        ("StatusCode.INTERNAL", "Received RST_STREAM with error code 2"),
        ("StatusCode.CANCELLED", "Received RST_STREAM with error code 8"),
    ],
)
def test_a_broken_connection_is_no_server(status: str, words: str) -> None:
    error = translated(InferenceServerException(words, status), "host:1")
    assert isinstance(error, NoServerError)
    assert str(error) == f"no Triton at host:1 ({words})"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("StatusCode.UNAVAILABLE", "16 images are being encoded"),
        ("503", "16 images are being encoded"),
        ("StatusCode.UNAVAILABLE", "Exceeds maximum queue size; stopping and mapping"),
        ("StatusCode.DEADLINE_EXCEEDED", "Stream removed (Deadline Exceeded)"),
        ("StatusCode.INTERNAL", "the disk is full"),
        ("StatusCode.NOT_FOUND", "the image is not cached"),
        ("400", "an exception occurred in the client while decoding the response: x"),
    ],
)
def test_an_error_of_a_server_that_is_there_is_not(status: str, words: str) -> None:
    assert not isinstance(translated(InferenceServerException(words, status), "host:1"), NoServerError)


@pytest.mark.parametrize("status", ["502", "503", "504"])
def test_a_proxy_without_a_server_is_no_server(status: str) -> None:
    words = "an exception occurred in the client while decoding the response: <html>"
    error = translated(InferenceServerException(words, status), "host:1")
    assert isinstance(error, NoServerError)
    assert str(error) == f"no Triton at host:1 (a proxy there answers {status})"


@pytest.mark.parametrize("status", ["StatusCode.NOT_FOUND", "404", "400"])
def test_a_server_that_has_unloaded_its_models_is_no_server(status: str) -> None:
    words = "in ensemble 'sam3', Request for unknown model: 'sam3_encode' has no available versions"
    assert isinstance(translated(InferenceServerException(words, status), "host:1"), NoServerError)


def test_retries_end_with_the_timeout(nobody: str) -> None:
    started = time.monotonic()
    with (
        Sam3Client(nobody, timeout_s=0.5, retries=20) as client,
        pytest.raises(NoServerError, match=f"no Triton at {nobody}"),
    ):
        client.model()
    assert time.monotonic() - started < 60  # 20 pauses take years


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InvalidUrlError, match="'ftp://host:1' is not a Triton address"):
        Sam3Client("ftp://host:1")


@pytest.mark.parametrize("url", ["localhost:99999", "localhost:0", "localhost:port", "grpc://", ""])
def test_an_invalid_port_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrlError, match="is not a Triton address"):
        Sam3Client(url)


def test_a_client_that_was_closed_says_so(nobody: str) -> None:
    client = Sam3Client(nobody)
    client.close()
    with pytest.raises(ClosedClientError, match="this client was closed"):
        client.predict(golden.FOLDER / "rocket.png", points=[[1, 1]])


def test_the_command_says_so_in_one_line(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(golden.FOLDER / "rocket.png"), "--point", "1,1", "--url", nobody]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"sam3: no Triton at {nobody}")
    assert error.count("\n") == 1


def test_the_drop_in_logs_and_returns_none(nobody: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo = Path(shutil.copy(golden.FOLDER / "rocket.png", tmp_path))
    assert get_mask_from_sam(photo, [[1, 1]], url=nobody) is None
    assert "no Triton at" in caplog.text
    assert list(tmp_path.iterdir()) == [photo]
