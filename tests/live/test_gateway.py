"""The contract with existing callers."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import golden
import numpy as np
import pytest
import requests
from PIL import Image
from processes import run_gateway
from repository import free_ports
from sam3_server import Ports, TritonServer
from sam3_triton import Sam3Client, get_mask_from_sam
from sam3_triton.cli import main

PHOTO = golden.FOLDER / "coffee.png"


def post(gateway: str, photo: Path = PHOTO, **data: str) -> requests.Response:
    with photo.open("rb") as file:
        return requests.post(f"{gateway}/predict/mask", files={"image": file}, data=data, timeout=60)


def test_health(gateway: str) -> None:
    answer = requests.get(f"{gateway}/health", timeout=30)
    assert answer.status_code == 200
    # The two fields of the contract; more may follow.
    assert {"status": "running", "model_loaded": True}.items() <= answer.json().items()


@pytest.mark.parametrize("name", ["coffee/three_points_single", "rocket/one_point_single", "rocket/one_point_multi"])
def test_the_mask_is_the_clients_best_byte_for_byte(gateway: str, server, name: str) -> None:
    case = golden.case(name)
    answer = post(
        gateway,
        case.photo,
        points=str(case.prompt["points"]),
        labels=str(case.prompt["labels"]),
        multimask=str(case.prompt["multimask"]),
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    with Sam3Client(server.grpc_url) as client:
        assert answer.content == client.predict(case.photo, **case.prompt).mask_pngs[0]
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "L"
    assert set(np.unique(np.asarray(image))) <= {0, 255}
    assert golden.iou(np.asarray(image) > 0, case.masks[0]) >= golden.MINIMUM_IOU


def test_the_forms_of_points_and_labels_mean_the_same(gateway: str) -> None:
    masks = {
        post(gateway, **data).content
        for data in (
            {"points": "[[300, 200]]"},
            {"points": "[300, 200]"},
            {"points": "[[300, 200]]", "labels": "1"},
            {"points": "[[300, 200]]", "labels": "[1]"},
            {"points": str([[300, 200]]), "labels": ""},
            *({"points": str([[300, 200]]), "multimask": text} for text in (str(False), "false", "0", "off", "no", "")),
        )
    }
    assert len(masks) == 1


def test_the_spellings_of_multimask_mean_the_same(gateway: str) -> None:
    spellings = (str(True), "true", "1", "on", "yes")
    masks = {post(gateway, points="[[300, 200]]", multimask=text).content for text in spellings}
    assert len(masks) == 1
    assert masks != {post(gateway, points="[[300, 200]]", multimask="false").content}


def test_a_typical_existing_caller(gateway: str) -> None:
    with PHOTO.open("rb") as f:
        answer = requests.post(
            gateway + "/predict/mask",
            files={"image": f},
            data={"points": str([[300, 200]]), "multimask": "false"},
            timeout=60,
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(answer.content))
    assert (mask.format, mask.mode, mask.size) == ("PNG", "L", Image.open(PHOTO).size)
    assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_the_gateway_outlives_triton(exported: Path, tmp_path: Path) -> None:
    ports = Ports(*free_ports(3))
    with run_gateway(f"127.0.0.1:{ports.grpc}") as gateway, (tmp_path / "log").open("w") as log:
        for _ in range(2):
            for _ in range(10):  # after many failures gRPC would by default wait long before the next attempt
                answer = post(gateway, points="[[300, 200]]")
                assert answer.status_code == 503
                assert "no Triton at" in answer.json()["detail"]
            with TritonServer(exported, log, ports=ports):
                time.sleep(2)
                assert post(gateway, points="[[300, 200]]").status_code == 200
                assert requests.get(f"{gateway}/health", timeout=30).json()["model_loaded"] is True


def test_pages_of_other_origins_may_call_it(gateway: str) -> None:
    answer = requests.get(f"{gateway}/health", headers={"Origin": "https://example.org"}, timeout=30)
    assert answer.headers["access-control-allow-origin"] == "*"


def test_the_command_writes_mask_candidates_and_overlay(server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mask, picture = tmp_path / "mask.png", tmp_path / "overlay.png"
    arguments = [
        "predict",
        str(PHOTO),
        "--point",
        "300,200",
        "--point",
        "10,10",
        "--label",
        "0",
        "--box",
        "9,9,500,390",
    ]
    arguments += ["--multimask", "-o", str(mask), "--overlay", str(picture), "--url", server.grpc_url]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("score") == 3
    for path in (mask, tmp_path / "mask.2.png", tmp_path / "mask.3.png"):
        assert Image.open(path).size == (600, 400)
    assert Image.open(picture).mode == "RGB"
    with Sam3Client(server.grpc_url) as client:
        best = client.predict(PHOTO, points=[[300, 200], [10, 10]], labels=[1, 0], box=[9, 9, 500, 390], multimask=True)
    assert mask.read_bytes() == best.mask_pngs[0]


def test_the_drop_in_saves_the_mask_beside_the_image(server, tmp_path: Path) -> None:
    photo = Path(shutil.copy(PHOTO, tmp_path / "my.photo.png"))
    saved = get_mask_from_sam(str(photo), [[300, 200]], url=server.grpc_url)
    assert saved is not None
    path = Path(saved)
    assert path.is_absolute()
    assert path.parent == tmp_path
    assert path.name.startswith("my.photo_mask_")
    assert len(path.stem.removeprefix("my.photo_mask_")) == 6
    assert Image.open(path).size == (600, 400)
    assert get_mask_from_sam(photo, [[9000, 1]], url=server.grpc_url) is None
