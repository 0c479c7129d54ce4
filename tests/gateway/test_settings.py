from __future__ import annotations

import pytest
from sam3_gateway.cli import main
from sam3_gateway.settings import read


def test_flags_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_GATEWAY_TRITON", "elsewhere:1")
    monkeypatch.setenv("SAM3_GATEWAY_MAX_POINTS", "7")
    monkeypatch.setenv("SAM3_GATEWAY_API_KEY", "secret")
    settings = read(["--max-points", "8"])
    assert (settings.triton, settings.max_points) == ("elsewhere:1", 8)
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "secret"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "origins"),
    [("*", ["*"]), ("", []), ("https://a.example, https://b.example", ["https://a.example", "https://b.example"])],
)
def test_origins(text: str, origins: list[str]) -> None:
    assert read(["--cors-origins", text]).origins == origins


def test_picture_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read([]).formats[:2] == ("PNG", "JPEG")
    monkeypatch.setenv("SAM3_GATEWAY_PICTURE_FORMATS", "png, Tga,")
    assert read([]).formats == ("PNG", "TGA")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--port", "many"], "--port (SAM3_GATEWAY_PORT): Input should be a valid integer"),
        (["--port", "70000"], "--port (SAM3_GATEWAY_PORT): Input should be less than or equal to 65535, not '70000'"),
        (["--max-pixels", "0"], "--max-pixels (SAM3_GATEWAY_MAX_PIXELS): Input should be greater than 0, not '0'"),
        (
            ["--picture-formats", "PNG,JPG"],
            "--picture-formats (SAM3_GATEWAY_PICTURE_FORMATS): unknown format 'JPG'; choose",
        ),
        (["--picture-formats", " ,"], "--picture-formats (SAM3_GATEWAY_PICTURE_FORMATS): name at least one format"),
        (["--nonsense", "1"], "unrecognized arguments: --nonsense"),
    ],
)
def test_invalid_settings_are_reported(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert fault in capsys.readouterr().err


def test_an_invalid_environment_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAM3_GATEWAY_TIMEOUT_S", "soon")
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert "SAM3_GATEWAY_TIMEOUT_S" in capsys.readouterr().err


def test_an_invalid_address_of_triton_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--triton", "ftp://host:1"]) == 1
    assert "'ftp://host:1' is not a Triton address" in capsys.readouterr().err


def test_help_names_every_setting_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("--max-in-flight", "(default: 32)", "--cors-origins", "SAM3_GATEWAY_API_KEY", "/predict/mask"):
        assert part in text
