"""/v1/concepts in front of the real server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden
import golden_concepts
import numpy as np
import pytest
import requests
from pictures import fresh_image
from PIL import Image
from processes import run_gateway
from pycocotools import mask as coco
from sam3_triton import Instances, Sam3Client
from shapely import Polygon

CASE = next(case for case in golden_concepts.cases() if case.name == "coffee/text_and_two_boxes")
TEXTS = ["A red coffee cup", "cat"]
FIELDS = {"texts": json.dumps(TEXTS), "boxes": str(CASE.boxes), "box_labels": "[1, 0]", "threshold": "0.45"}


@pytest.fixture(scope="module")
def concept_server(serve, exported_concepts: Path):
    return serve(exported_concepts)


@pytest.fixture(scope="module")
def gateway(concept_server) -> Iterator[str]:
    with run_gateway(concept_server.grpc_url) as url:
        yield url


@pytest.fixture(scope="module")
def expected(concept_server) -> list[Instances]:
    with Sam3Client(concept_server.grpc_url) as client:
        return client.find(CASE.photo, text=TEXTS, boxes=CASE.boxes, box_labels=[1, 0], threshold=0.45)


def post(gateway: str, **fields: Any) -> requests.Response:
    with CASE.photo.open("rb") as file:
        files = None if "image_id" in fields else {"image": file}
        return requests.post(f"{gateway}/v1/concepts", files=files, data=fields, timeout=60)


def pixels(mask: dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(mask["data"])))) > 0


def test_concepts_are_served(gateway: str) -> None:
    assert requests.get(f"{gateway}/v1/concepts", timeout=30).json() == {"served": True}


def test_the_answer_is_the_clients(gateway: str, expected: list[Instances]) -> None:
    answer = post(gateway, **FIELDS)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert [result["text"] for result in content["results"]] == TEXTS
    assert (content["height"], content["width"]) == CASE.size
    assert any(result["instances"] for result in content["results"])
    for result, found in zip(content["results"], expected, strict=True):
        assert result["total"] == found.total
        assert result["presence"] == pytest.approx(found.presence, abs=1e-5)
        assert [instance["score"] for instance in result["instances"]] == pytest.approx(found.scores, abs=1e-5)
        for instance, box, mask in zip(result["instances"], found.boxes, found.masks, strict=True):
            assert instance["box"] == pytest.approx(box, abs=0.05)
            assert golden.iou(pixels(instance["mask"]), mask) > 0.99


def test_the_formats_of_masks_mean_the_same(gateway: str, expected: list[Instances]) -> None:
    masks = [mask for found in expected for mask in found.masks]
    answers = {name: post(gateway, **FIELDS, masks=name).json()["results"] for name in ("rle", "polygons", "none")}
    described = {
        name: [instance["mask"] for result in results for instance in result["instances"]]
        for name, results in answers.items()
    }
    assert described["none"] == [None] * len(masks)
    for mask, rle, polygons in zip(masks, described["rle"], described["polygons"], strict=True):
        assert golden.iou(coco.decode(rle) > 0, mask) > 0.99
        area = sum(Polygon(each["exterior"], each["holes"]).area for each in polygons["polygons"])
        assert area == pytest.approx(mask.sum(), rel=0.01)


def test_clicks_and_concepts_share_the_cache(gateway: str) -> None:
    image = fresh_image()
    first = requests.post(f"{gateway}/v1/images", files={"image": image}, timeout=60).json()
    assert not first["cache_hit"]
    found = post(gateway, image_id=first["image_id"], texts="cat", threshold="0", max_instances="1")
    assert found.json()["cache_hit"]
    assert found.headers["x-image-id"] == first["image_id"]
    (result,) = found.json()["results"]
    box = str(result["instances"][0]["box"])
    refined = requests.post(
        f"{gateway}/v1/predict", data={"image_id": first["image_id"], "box": box, "masks": "rle"}, timeout=60
    )
    assert refined.json()["cache_hit"]


def test_boxes_alone_and_nothing_found(gateway: str) -> None:
    (alone,) = post(gateway, boxes=str(CASE.boxes[:1]), threshold="0.3").json()["results"]
    assert alone["text"] is None
    assert alone["instances"]
    assert pixels(alone["instances"][0]["mask"]).shape == CASE.size
    answer = post(gateway, texts="cat", threshold="1")
    assert answer.status_code == 200
    assert answer.json()["results"][0]["instances"] == []


def test_a_long_text_says_that_it_was_cut(gateway: str) -> None:
    texts = json.dumps(["word " * 2000, "cat"])
    assert [result["truncated"] for result in post(gateway, texts=texts, masks="none").json()["results"]] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("fields", "status", "fault"),
    [
        ({"image_id": "0" * 64, "texts": "cat"}, 404, "is cached"),
        ({"texts": "a\x07b"}, 400, "control character"),
        ({"texts": "&nbsp;"}, 400, "empty"),
        ({"boxes": "[[-9, -9, -1, -1]]"}, 400, "outside the image"),
        ({"boxes": "[[1e30, 1, 1e31, 4]]"}, 400, "outside the image"),
    ],
)
def test_errors_of_the_server_have_their_status(gateway: str, fields: dict[str, str], status: int, fault: str) -> None:
    answer = post(gateway, **fields)
    assert answer.status_code == status
    assert fault in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
