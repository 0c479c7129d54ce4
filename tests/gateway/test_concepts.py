"""/v1/concepts with a backend that is not Triton."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sam3_gateway.app import create_app
from sam3_gateway.settings import Settings
from sam3_triton import (
    CachedImage,
    ConceptPrompt,
    ConceptsNotServedError,
    EncodedImage,
    Instances,
    Sam3Error,
    ServedModel,
    ServerUnavailableError,
)

WIDTH, HEIGHT = 12, 8
MODEL = ServedModel("SAM 3", "5a" * 32)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PHOTO = png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


class Letters:
    """A backend without a model: a text has as many instances as letters, each a row of its mask."""

    def __init__(self) -> None:
        self.asked: list[tuple[EncodedImage | CachedImage, ConceptPrompt]] = []
        self.served_asked = 0
        self.error: Sam3Error | None = None

    async def find_concepts(
        self, image: EncodedImage | CachedImage, prompts: Sequence[ConceptPrompt]
    ) -> list[Instances]:
        self.asked += [(image, prompt) for prompt in prompts]
        if self.error is not None:
            raise self.error
        return [self.found(image.image_id, prompt) for prompt in prompts]

    def found(self, image_id: str, prompt: ConceptPrompt) -> Instances:
        count = 0 if prompt.text == "nothing" else min(HEIGHT, len(prompt.text or "?"))
        masks = []
        for row in range(count if prompt.masks else 0):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[row] = 255
            masks.append(png(mask))
        return Instances(
            text=prompt.text,
            presence=0.75,
            truncated=len(prompt.text or "") > 100,
            total=count,
            scores=np.linspace(0.875, 0.5, count, dtype=np.float32),
            boxes=np.array([[0, row, WIDTH, row + 1] for row in range(count)], np.float32).reshape(-1, 4),
            mask_pngs=tuple(masks),
            image_size=(WIDTH, HEIGHT),
            image_id=image_id,
            cache_hit=True,
            model=MODEL,
        )

    async def serves_concepts(self) -> bool:
        self.served_asked += 1
        if self.error is not None:
            raise self.error
        return True

    async def close(self) -> None:
        pass


@pytest.fixture
def backend() -> Letters:
    return Letters()


@pytest.fixture
def gateway(backend: Letters) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), backend), raise_server_exceptions=False) as client:
        yield client


def test_each_text_has_a_result(gateway: TestClient, backend: Letters) -> None:
    answer = gateway.post("/v1/concepts", files={"image": PHOTO}, data={"texts": '["ox", "nothing"]'})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["image_id"] == EncodedImage.of(PHOTO).image_id == answer.headers["x-image-id"]
    assert (content["width"], content["height"], content["cache_hit"]) == (WIDTH, HEIGHT, True)
    assert {"inspect", "triton", "encode", "total"} <= content["milliseconds"].keys()
    first, second = content["results"]
    assert second == {"text": "nothing", "presence": 0.75, "truncated": False, "total": 0, "instances": []}
    assert (first["text"], first["total"]) == ("ox", 2)
    assert [instance["score"] for instance in first["instances"]] == [0.875, 0.5]
    assert first["instances"][1]["box"] == [0, 1, WIDTH, 2]
    assert first["instances"][0]["mask"]["format"] == "png"
    assert answer.headers["x-cache-hit"] == "true"
    assert answer.headers["x-sam3-model"] == "SAM 3"
    assert 'sam3_gateway_requests_total{path="/v1/concepts",status="200"} 1.0' in gateway.get("/metrics").text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("red car", ["red car"]),
        ('"cup"', ['"cup"']),
        ("7", ["7"]),
        ('["cup", "Tasse für Kaffee"]', ["cup", "Tasse für Kaffee"]),
        (' ["cup"]', ["cup"]),
        ("x" * 10_000, ["x" * 10_000]),
    ],
)
def test_texts_are_a_list_or_one(gateway: TestClient, backend: Letters, texts: str, expected: list[str]) -> None:
    answer = gateway.post("/v1/concepts", files={"image": PHOTO}, data={"texts": texts, "masks": "none"})
    assert [result["text"] for result in answer.json()["results"]] == expected
    assert [prompt.text for _, prompt in backend.asked] == expected


def test_boxes_alone_have_one_result_without_a_text(gateway: TestClient, backend: Letters) -> None:
    fields = {"image_id": "0" * 64, "texts": "", "boxes": "[[1, 2, 3, 4], [5, 6, 7, 8]]", "box_labels": "[true, 0]"}
    answer = gateway.post("/v1/concepts", data=fields)
    (result,) = answer.json()["results"]
    assert result["text"] is None
    ((image, prompt),) = backend.asked
    assert image == CachedImage("0" * 64)
    assert prompt.text is None
    assert prompt.boxes is not None
    assert prompt.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert prompt.box_labels is not None
    assert prompt.box_labels.tolist() == [1, 0]


def test_options_reach_the_backend_for_each_text(gateway: TestClient, backend: Letters) -> None:
    fields = {"texts": '["ox", "cup"]', "boxes": "[[1, 2, 3, 4]]", "threshold": "0.25", "max_instances": "3"}
    gateway.post("/v1/concepts", files={"image": PHOTO}, data={**fields, "nms_iou": "0.9"})
    for _, prompt in backend.asked:
        assert (prompt.threshold, prompt.max_instances, prompt.nms_iou, prompt.masks) == (0.25, 3, 0.9, True)
        assert prompt.boxes is not None
    gateway.post("/v1/concepts", files={"image": PHOTO}, data={"texts": "ox", "threshold": "", "masks": "none"})
    _, prompt = backend.asked[-1]
    assert (prompt.threshold, prompt.max_instances, prompt.nms_iou, prompt.masks) == (0.5, None, None, False)


def test_masks_come_in_the_format_asked_for(gateway: TestClient) -> None:
    found: dict[str, Any] = {}
    for masks in ("rle", "polygons", "none"):
        answer = gateway.post("/v1/concepts", files={"image": PHOTO}, data={"texts": "o", "masks": masks})
        ((instance,),) = (result["instances"] for result in answer.json()["results"])
        found[masks] = instance["mask"]
    assert found["rle"]["size"] == [HEIGHT, WIDTH]
    (polygon,) = found["polygons"]["polygons"]
    assert sorted(map(tuple, polygon["exterior"])) == [(0, 0), (0, 1), (WIDTH, 0), (WIDTH, 1)]
    assert found["none"] is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "no prompt: give a text or boxes"),
        ({"texts": "  "}, "the text is empty"),
        ({"texts": '["cup", ""]'}, "the text is empty"),
        ({"texts": "[]"}, "the list of texts is empty"),
        ({"texts": "[cup]"}, "texts must be JSON, not '[cup]'"),
        ({"texts": "[1]"}, "texts must be a JSON list of strings, or one text, not '[1]'"),
        ({"texts": '[["cup"]]'}, "texts must be a JSON list of strings"),
        ({"texts": '["\\ud800"]'}, "half of a surrogate pair"),
        ({"texts": str(["cup"] * 17).replace("'", '"')}, "too many texts: 17; at most 16 are accepted"),
        ({"texts": "x" * 10_001}, "a text has 10001 characters; at most 10000 are accepted"),
        ({"texts": "cup", "boxes": "[1, 2, 3, 4]"}, "boxes must be a JSON list"),
        ({"texts": "cup", "boxes": str([[1, 2, 3, 4]] * 33)}, "too many boxes: 33; at most 32 are accepted"),
        ({"texts": "cup", "boxes": "[[1, 2, 1, 4]]"}, "a box must be x0, y0, x1, y1"),
        ({"texts": "cup", "boxes": "[[1, 2, 3, 4]]", "box_labels": "[1, 0]"}, "1 boxes, but 2 labels"),
        ({"texts": "cup", "boxes": "[[1, 2, 3, 4]]", "box_labels": "yes"}, "box_labels must be"),
        ({"texts": "cup", "threshold": "high"}, "threshold must be a number, not 'high'"),
        ({"texts": "cup", "threshold": "nan"}, "threshold must be from 0 to 1"),
        ({"texts": "cup", "threshold": "2"}, "threshold must be from 0 to 1"),
        ({"texts": "cup", "max_instances": "0"}, "max_instances must be an integer of at least 1"),
        ({"texts": "cup", "max_instances": "2.5"}, "max_instances must be an integer, not '2.5'"),
        ({"texts": "cup", "max_instances": "9" * 5000}, "max_instances must be an integer, not '999"),
        ({"texts": "cup", "nms_iou": "0"}, "nms_iou must be above 0"),
        ({"texts": "cup", "masks": "jpeg"}, "masks:"),
        ({"texts": "cup", "image_id": "0" * 64}, "give an image or an image_id, and not both"),
    ],
)
def test_an_invalid_field_is_named(gateway: TestClient, backend: Letters, fields: dict[str, str], fault: str) -> None:
    answer = gateway.post("/v1/concepts", files={"image": PHOTO}, data=fields)
    assert answer.status_code == 400
    assert fault in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert backend.asked == []


def test_an_image_is_needed(gateway: TestClient, backend: Letters) -> None:
    answer = gateway.post("/v1/concepts", data={"texts": "cup"})
    assert answer.status_code == 400
    assert "give an image or an image_id" in answer.json()["detail"]


def test_a_server_without_concepts_is_404_with_the_reason(gateway: TestClient, backend: Letters) -> None:
    backend.error = ConceptsNotServedError("export them")
    answer = gateway.post("/v1/concepts", files={"image": PHOTO}, data={"texts": "cup"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "export them"})


def test_whether_concepts_are_served_is_asked_once_a_second(gateway: TestClient, backend: Letters) -> None:
    assert [gateway.get("/v1/concepts").json() for _ in range(3)] == [{"served": True}] * 3
    assert backend.served_asked == 1


def test_whether_concepts_are_served_is_unknown_without_a_server(gateway: TestClient, backend: Letters) -> None:
    backend.error = ServerUnavailableError("no Triton")
    assert gateway.get("/v1/concepts").status_code == 503
    backend.error = None
    assert gateway.get("/v1/concepts").json() == {"served": True}


def test_every_field_has_a_description_and_an_example(gateway: TestClient) -> None:
    document = gateway.get("/openapi.json").json()
    operation = document["paths"]["/v1/concepts"]["post"]
    body = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]["properties"]
    assert all(field.get("description") for field in fields.values())
    without = {name for name, field in fields.items() if not field.get("examples")}
    assert without == {"image", "image_id", "masks"}
    assert operation["responses"].keys() == {"200", "400", "401", "404", "408", "413", "415", "500", "503"}
