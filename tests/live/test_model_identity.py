"""Which model a server runs is visible in its answers: to clients, in the gateway's headers, and to `sam3 doctor`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import golden
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from processes import run_gateway
from repository import infer
from sam3_triton import AsyncSam3Client, Sam3Client, ServedModel
from sam3_triton.cli import main
from tritonclient.utils import InferenceServerException

PHOTO = golden.FOLDER / "coffee.png"
CLICK = {"points": [[300, 200]]}
# The file itself: what an export records must be what a server says.
SAM3 = ServedModel("SAM 3", hashlib.sha256(golden.CHECKPOINT.read_bytes()).hexdigest())
SAM31 = ServedModel("SAM 3.1", hashlib.sha256(golden.CHECKPOINT_31.read_bytes()).hexdigest())
HEADERS_31 = {"x-sam3-model": SAM31.name, "x-sam3-checkpoint": SAM31.checkpoint_sha256}


@pytest.fixture(scope="module")
def exported_31(exported_for) -> Path:
    return exported_for(golden.cases(golden.FOLDER_31)[0])


@pytest.fixture(scope="module")
def server_31(serve, exported_31: Path):
    return serve(exported_31)


def url_of(server, scheme: str) -> str:
    return {"grpc": server.grpc_url, "http": f"http://{server.http_url}"}[scheme]


def test_a_report_says_what_was_exported(exported: Path, exported_31: Path) -> None:
    for repository, model, sigmoid in ((exported, SAM3, True), (exported_31, SAM31, False)):
        report = json.loads((repository / "sam3" / "exports" / "current" / "export.json").read_text())
        assert report["checkpoint"]["model"] == model.name
        assert report["checkpoint"]["sha256"] == model.checkpoint_sha256
        assert report["checkpoint"]["sigmoid_scores"] is sigmoid


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_clients_learn_the_model(server, server_31, scheme: str) -> None:
    for running, model in ((server, SAM3), (server_31, SAM31)):
        with Sam3Client(url_of(running, scheme)) as client:
            assert client.model() == model
            assert client.predict(PHOTO, **CLICK).model == model
            assert client.probe() == model


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_async_clients_learn_the_model(server_31, scheme: str) -> None:
    async def ask() -> None:
        async with AsyncSam3Client(url_of(server_31, scheme)) as client:
            assert await client.model() == SAM31
            assert (await client.predict(PHOTO, **CLICK)).model == SAM31
            assert await client.probe() == SAM31

    asyncio.run(ask())


@pytest.mark.parametrize("module", [tritonclient.grpc, tritonclient.http], ids=["grpc", "http"])
def test_the_model_alone_needs_no_image(server, inferences: Callable[[str], int], module) -> None:
    url = server.grpc_url if module is tritonclient.grpc else server.http_url
    with module.InferenceServerClient(url) as client:
        before = inferences("sam3_encode")
        answer = infer(client, module, {}, ("MODEL",), "sam3_embedding_cache")
        assert answer["MODEL"].tolist() == [SAM3.name.encode(), SAM3.checkpoint_sha256.encode()]
        assert inferences("sam3_encode") == before
        for model, outputs in (
            ("sam3", ("MODEL",)),
            ("sam3", ("MASKS", "MODEL")),
            ("sam3_embedding_cache", ("MODEL", "IMAGE_ID")),
        ):
            with pytest.raises(InferenceServerException, match="neither IMAGE nor CACHED_IMAGE_ID was given"):
                infer(client, module, {}, outputs, model)


def test_the_gateway_says_which_model_answered(server_31) -> None:
    with run_gateway(server_31.grpc_url) as url:
        health = requests.get(f"{url}/health", timeout=60).json()
        assert health == {
            "status": "running",
            "model_loaded": True,
            "model": {"name": SAM31.name, "checkpoint_sha256": SAM31.checkpoint_sha256},
        }
        form = {"points": "[[300, 200]]"}
        for path, fields in (("/predict/mask", form), ("/v1/predict", form), ("/v1/images", {})):
            files = {"image": PHOTO.read_bytes()}
            answer = requests.post(
                url + path, files=files, data=fields, headers={"Origin": "https://x.org"}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            assert {name: answer.headers.get(name) for name in HEADERS_31} == HEADERS_31
            shown = answer.headers["access-control-expose-headers"].lower()
            assert all(name in shown for name in HEADERS_31)
        refused = requests.post(f"{url}/predict/mask", files={"image": b"no image"}, data=form, timeout=60)
        assert refused.status_code == 415
        assert not HEADERS_31.keys() & {name.lower() for name in refused.headers}


def test_the_doctor_compares_it_with_the_repository(
    server_31, exported: Path, exported_31: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> tuple[int, str]:
        code = main(["doctor", "--url", server_31.grpc_url, *arguments])
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line[9:].startswith("model "))
        return code, line

    served = f"SAM 3.1, checkpoint {SAM31.checkpoint_sha256[:12]}..."
    code, line = told()
    assert (code, line.split(maxsplit=2)) == (0, ["ok", "model", served])
    code, line = told("--repository", str(exported_31))
    assert (code, line.split(maxsplit=2)) == (0, ["ok", "model", f"{served}, as in the repository"])
    code, line = told("--repository", str(exported))
    assert code == 1
    assert line.startswith("fault ")
    assert f"the server runs {served}, but the repository has SAM 3, checkpoint" in line
