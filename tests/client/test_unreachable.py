"""Errors when there is no server."""

from __future__ import annotations

import shutil
from pathlib import Path

import golden
import pytest
from repository import free_ports
from sam3_triton import ClosedClientError, InvalidUrlError, Sam3Client, ServerUnavailableError, get_mask_from_sam
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


@pytest.mark.parametrize("words", ["failed to connect to all addresses", "Stream removed (sendmsg: Broken pipe (32))"])
def test_a_broken_connection_is_distinguished_from_a_busy_server(words: str) -> None:
    error = translated(InferenceServerException(words, "StatusCode.UNAVAILABLE"), "host:1")
    assert isinstance(error, ServerUnavailableError)
    assert str(error) == f"no Triton at host:1 ({words})"
    busy = translated(InferenceServerException("16 images are being encoded", "StatusCode.UNAVAILABLE"), "host:1")
    assert str(busy) == "16 images are being encoded"


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
