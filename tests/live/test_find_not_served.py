"""Concept prompts on a server whose model was exported without them."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import golden
import pytest
import requests
from sam3_triton import AsyncSam3Client, ConceptsNotServedError, Sam3Client
from sam3_triton.cli import main

PHOTO = golden.FOLDER / "coffee.png"
FAULT = "this server does not serve concept prompts"
ADVICE = "sam3-export --components clicks,concepts"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_client_says_how_to_export_them(server, scheme: str) -> None:
    url = {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[scheme]
    with Sam3Client(url) as client:
        image_id = client.set_image(PHOTO)
        assert not client.serves_concepts()
        for image in ({"image": PHOTO}, {"image_id": image_id}):
            with pytest.raises(ConceptsNotServedError, match=FAULT) as error:
                client.find(**image, text=["cup", "plate"])
            assert ADVICE in str(error.value)

    async def same() -> None:
        async with AsyncSam3Client(url) as client:
            assert not await client.serves_concepts()
            with pytest.raises(ConceptsNotServedError, match=FAULT):
                await client.find(PHOTO, boxes=[[1, 2, 30, 40]])

    asyncio.run(same())


def test_no_image_is_uploaded_for_it(server) -> None:
    with Sam3Client(server.grpc_url) as client, pytest.raises(ConceptsNotServedError):
        client.find(b"not even a picture", text="cup")


def test_the_gateway_answers_404_with_the_same(gateway: str) -> None:
    assert requests.get(f"{gateway}/v1/concepts", timeout=30).json() == {"served": False}
    with PHOTO.open("rb") as file:
        answer = requests.post(f"{gateway}/v1/concepts", files={"image": file}, data={"texts": "cup"}, timeout=30)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith(FAULT)
    assert ADVICE in answer.json()["detail"]


def test_the_command_says_the_same(server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    assert main(["find", str(PHOTO), "cup", "-o", str(out), "--url", server.grpc_url]) == 1
    assert ADVICE in capsys.readouterr().err
    assert not out.exists()


def test_a_batch_fails_only_for_concepts(server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    shutil.copy(PHOTO, photos / "coffee.png")
    lines = [{"image": "coffee.png", "points": [[300, 200]]}, {"image": "coffee.png", "text": "cup"}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["batch", str(photos), "--prompts", str(tmp_path / "prompts.jsonl"), "-o", str(out)]
    assert main([*arguments, "--url", server.grpc_url]) == 3
    assert ADVICE in capsys.readouterr().err
    clicked, concept = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert clicked["masks"] == ["coffee.1.png"]
    assert ADVICE in concept["error"]
