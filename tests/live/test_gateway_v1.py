"""The gateway's full API, under /v1/."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import requests
from pictures import fresh_image
from PIL import Image
from processes import run_gateway
from pycocotools import mask as coco
from sam3_triton import Sam3Client

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()
POINTS = {"points": "[[300, 200]]"}


def post(url: str, path: str, image: bytes | None = None, status: int = 200, **fields: str) -> dict[str, Any]:
    files = {key: (None, value) for key, value in fields.items()}
    if image is not None:
        files["image"] = ("photo.png", image)
    answer = requests.post(f"{url}{path}", files=files, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def pixels(candidate: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(candidate["mask"]["data"])))) > 0


def drawn(polygons: list[dict[str, Any]], shape: tuple[int, int]) -> np.ndarray:
    """Draws polygons by pycocotools, as docs/gateway.md tells callers to."""

    def region(ring: list[list[int]]) -> np.ndarray:
        return coco.decode(coco.frPyObjects([np.ravel(ring).tolist()], *shape))[..., 0] > 0

    total = np.zeros(shape, bool)
    for polygon in polygons:
        pixels = region(polygon["exterior"])
        for hole in polygon["holes"]:
            pixels &= ~region(hole)
        total |= pixels
    return total


def test_all_candidates_with_their_scores(gateway: str, server) -> None:
    answer = post(gateway, "/v1/predict", PHOTO, **POINTS, multimask="true")
    with Sam3Client(server.grpc_url) as client:
        expected = client.predict(PHOTO, points=[[300, 200]], multimask=True)
    assert [candidate["score"] for candidate in answer["candidates"]] == pytest.approx(expected.scores.tolist())
    data = [base64.b64decode(candidate["mask"]["data"]) for candidate in answer["candidates"]]
    assert data == list(expected.mask_pngs)
    assert (answer["width"], answer["height"], answer["image_id"]) == (600, 400, expected.image_id)
    assert list(answer["milliseconds"]) == ["read", "inspect", "triton", "encode", "total"]
    contract = requests.post(
        f"{gateway}/predict/mask", files={"image": PHOTO}, data={**POINTS, "multimask": "true"}, timeout=60
    )
    assert contract.content == data[0]


def test_the_formats_show_the_same_mask(gateway: str) -> None:
    case = {**POINTS, "box": "[9, 9, 500, 390]"}
    png, rle, polygons = (
        post(gateway, "/v1/predict", PHOTO, **case, masks=masks)["candidates"][0]
        for masks in ("png", "rle", "polygons")
    )
    np.testing.assert_array_equal(coco.decode(rle["mask"]) > 0, pixels(png))
    assert rle["mask"]["format"] == "rle"
    np.testing.assert_array_equal(drawn(polygons["mask"]["polygons"], (400, 600)), pixels(png))


def test_prefetch_then_click_by_id(gateway: str) -> None:
    image = fresh_image()
    first = post(gateway, "/v1/images", image)
    assert (first["cache_hit"], first["width"], first["height"]) == (False, 120, 80)
    assert post(gateway, "/v1/images", image)["cache_hit"] is True
    by_id = post(gateway, "/v1/predict", image_id=first["image_id"], points="[[5, 5]]")
    assert by_id["cache_hit"] is True
    assert (by_id["width"], by_id["height"]) == (120, 80)
    by_bytes = post(gateway, "/v1/predict", image, points="[[5, 5]]")
    assert by_id["candidates"] == by_bytes["candidates"]


def test_a_candidate_is_refined(gateway: str, server) -> None:
    first = post(gateway, "/v1/predict", PHOTO, **POINTS, logits="true")["candidates"][0]
    prompt = {"points": "[[300, 200], [50, 50]]", "labels": "[1, 0]"}
    refined = post(gateway, "/v1/predict", PHOTO, **prompt, mask_input=json.dumps(first["low_res_logits"]))
    with Sam3Client(server.grpc_url) as client:
        start = client.predict(PHOTO, points=[[300, 200]])
        click = {"points": [[300, 200], [50, 50]], "labels": [1, 0]}
        expected = client.predict(PHOTO, **click, mask_input=start.low_res_logits[0])
        assert expected.mask_pngs != client.predict(PHOTO, **click).mask_pngs
    assert base64.b64decode(refined["candidates"][0]["mask"]["data"]) == expected.mask_pngs[0]
    assert "low_res_logits" not in refined["candidates"][0]


def test_images_through_shared_memory(server) -> None:
    image = fresh_image(640, 480)
    with run_gateway(server.grpc_url, "--shared-memory") as url:
        assert post(url, "/v1/images", image)["cache_hit"] is False
        assert list(Path("/dev/shm").glob("sam3_client_*"))
    assert not list(Path("/dev/shm").glob("sam3_client_*"))


@pytest.mark.parametrize(
    ("image", "fields", "status", "detail"),
    [
        (None, {**POINTS, "image_id": "0" * 64}, 404, "image"),
        (None, {**POINTS, "image_id": "../x"}, 400, "image_id must be 64 lowercase hexadecimal digits"),
        (None, POINTS, 400, "give an image or an image_id, and not both"),
        (PHOTO, {**POINTS, "image_id": "0" * 64}, 400, "give an image or an image_id, and not both"),
        (PHOTO, {}, 400, "no prompt"),
        (PHOTO, {"box": "[1, 2, 3]"}, 400, "box must be JSON [x1, y1, x2, y2]"),
        (PHOTO, {"box": "[5, 5, 5, 9]"}, 400, "x1 < x2"),
        (PHOTO, {"box": "[1, 401, 90, 500]"}, 400, "wholly outside the image of 600 x 400 pixels"),
        (PHOTO, {"points": "[[700, 1]]"}, 400, "POINTS[0, 0] is (700, 1), outside the image of 600 x 400 pixels"),
        (PHOTO, {**POINTS, "masks": "jpeg"}, 400, "masks: Input should be 'png', 'rle' or 'polygons'"),
        (PHOTO, {**POINTS, "mask_input": "[1]"}, 400, "mask_input must be a candidate's low_res_logits"),
        (PHOTO, {**POINTS, "mask_input": '{"shape": [2, 2], "data": "AAAA"}'}, 400, "must have 16 bytes, not 3"),
        (PHOTO, {**POINTS, "mask_input": '{"shape": [1, 1], "data": "AAAAAA=="}'}, 400, "MASK_INPUT"),
        (PHOTO, {**POINTS, "mask_input": '{"shape": [1, 1], "data": "AADAfw=="}'}, 400, "finite"),
        (PHOTO, {**POINTS, "logits": "some"}, 400, "logits must be true or false"),
    ],
)
def test_faults_are_named(gateway: str, image: bytes | None, fields: dict, status: int, detail: str) -> None:
    assert detail in post(gateway, "/v1/predict", image, status, **fields)["detail"]
    assert post(gateway, "/v1/predict", PHOTO, **POINTS)["candidates"]
