"""The routes with a backend that is not Triton: `create_app` takes any `Backend`."""

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
    ClosedClientError,
    ConceptPrompt,
    ConceptsNotServedError,
    DeadlineExceededError,
    EncodedImage,
    ImageNotCachedError,
    Instances,
    InvalidInputError,
    Prediction,
    PredictionError,
    Prefetch,
    Prompt,
    Sam3Error,
    ServedModel,
    ServerUnavailableError,
)

WIDTH, HEIGHT = 12, 8
MODEL = ServedModel("SAM 3.1", "5a" * 32)
FIELDS = {"points": "[[3, 4]]"}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PHOTO = png(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


class Boxes:
    """A backend without a model. Its mask is the rectangle from the first point to the lower right corner."""

    def __init__(self) -> None:
        self.asked: list[tuple[EncodedImage | CachedImage, Prompt, bool]] = []
        self.closed = 0
        self.error: Sam3Error | None = None

    async def segment_objects(
        self, image: EncodedImage | CachedImage, prompts: Sequence[Prompt], *, logits: bool
    ) -> list[Prediction]:
        self.asked += [(image, prompt, logits) for prompt in prompts]
        if self.error is not None:
            raise self.error
        return [self.rectangle(image.image_id, prompt) for prompt in prompts]

    def rectangle(self, image_id: str, prompt: Prompt) -> Prediction:
        corner = prompt.points[0] if prompt.points is not None else prompt.box
        assert corner is not None
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[int(corner[1]) :, int(corner[0]) :] = 255
        count = 3 if prompt.multimask else 1
        return Prediction((png(mask),) * count, np.linspace(0.9, 0.5, count), image_id, False, MODEL, None)

    async def find_concepts(
        self, image: EncodedImage | CachedImage, prompts: Sequence[ConceptPrompt]
    ) -> list[Instances]:
        raise ConceptsNotServedError("no concepts")

    async def serves_concepts(self) -> bool:
        return False

    async def prefetch(self, image: EncodedImage) -> Prefetch:
        return Prefetch(True, MODEL)

    async def probe(self) -> ServedModel:
        if self.error is not None:
            raise self.error
        return MODEL

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def backend() -> Boxes:
    return Boxes()


@pytest.fixture
def gateway(backend: Boxes) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(max_points=2), backend), raise_server_exceptions=False) as client:
        yield client


def test_a_second_upstream_is_one_class(gateway: TestClient, backend: Boxes) -> None:
    answer = gateway.post("/predict/mask", files={"image": PHOTO}, data=FIELDS)
    assert answer.status_code == 200
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (mask[4:, 3:] == 255).all()
    assert mask.sum() == 255 * 4 * 9
    ((image, prompt, logits),) = backend.asked
    assert isinstance(image, EncodedImage)
    assert image.data == PHOTO
    assert not logits
    assert prompt.labels is not None
    assert prompt.labels.tolist() == [1]
    assert prompt.points_outside


def test_an_id_reaches_the_backend_as_a_cached_image(gateway: TestClient, backend: Boxes) -> None:
    image_id = "0" * 64
    fields = {**FIELDS, "image_id": image_id, "multimask": "true"}
    answer = gateway.post("/v1/predict", data=fields)
    assert answer.status_code == 200, answer.text
    assert [candidate["score"] for candidate in answer.json()["candidates"]] == [0.9, 0.7, 0.5]
    assert backend.asked[0][0] == CachedImage(image_id)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInputError("a fault"), 400),
        (ImageNotCachedError("a fault"), 404),
        (ServerUnavailableError("a fault"), 503),
        (DeadlineExceededError("a fault"), 503),
        (PredictionError("a fault"), 500),
        (ClosedClientError("a fault"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_kind_of_error_has_its_status(gateway: TestClient, backend: Boxes, error: Sam3Error, status: int) -> None:
    backend.error = error
    answer = gateway.post("/predict/mask", files={"image": PHOTO}, data=FIELDS)
    assert answer.status_code == status
    assert (answer.json()["detail"] == "a fault") == (status != 500)
    assert gateway.get("/health").json()["model_loaded"] is False


def test_health_and_headers_name_the_model(gateway: TestClient, backend: Boxes) -> None:
    model = {"name": MODEL.name, "checkpoint_sha256": MODEL.checkpoint_sha256}
    assert gateway.get("/health").json() == {"status": "running", "model_loaded": True, "model": model}
    answer = gateway.post("/v1/images", files={"image": PHOTO})
    assert answer.headers["x-sam3-model"] == MODEL.name
    assert answer.headers["x-sam3-checkpoint"] == MODEL.checkpoint_sha256


def test_health_names_no_model_if_none_answers(gateway: TestClient, backend: Boxes) -> None:
    backend.error = PredictionError("a fault")
    assert gateway.get("/health").json() == {"status": "running", "model_loaded": False, "model": None}
    assert gateway.get("/health/ready").status_code == 503


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"points": "[[1, 1], [2, 2], [3, 3]]"}, "too many points: 3; at most 2 are accepted"),
        ({"points": "[[1, 1]]", "labels": "[1, 0]"}, "1 points, but 2 labels"),
        ({"points": "[[1, 1]]", "labels": "[7]"}, "a label must be 1 (foreground) or 0 (background), not 7"),
    ],
)
def test_an_invalid_prompt_never_reaches_the_backend(
    gateway: TestClient, backend: Boxes, fields: dict[str, Any], fault: str
) -> None:
    for path in ("/predict/mask", "/v1/predict"):
        answer = gateway.post(path, files={"image": PHOTO}, data=fields)
        assert answer.status_code == 400
        assert fault in answer.json()["detail"]
    assert backend.asked == []


@pytest.mark.parametrize(
    ("fields", "corners"),
    [
        ({"boxes": "[[1, 2, 9, 9], [-3, -4, 5, 6]]"}, [[1, 2], [-3, -4]]),
        ({"boxes": "[[1, 2, 9, 9]]"}, [[1, 2]]),
        ({"points": "[[[1, 2]], [[3, 4], [5, 6]]]"}, [[1, 2], [3, 4]]),
        ({"points": "[[1, 2, 3, 4], [[5, 6]]]", "labels": "[[1, 0], [true]]"}, [[1, 2], [5, 6]]),
        ({"points": "[[], [[5, 6]]]", "boxes": "[[1, 2, 9, 9], [2, 3, 9, 9]]"}, [[1, 2], [5, 6]]),
    ],
)
def test_several_objects_are_answered_in_their_order(
    gateway: TestClient, backend: Boxes, fields: dict[str, str], corners: list
) -> None:
    answer = gateway.post("/v1/predict", files={"image": PHOTO}, data={**fields, "multimask": "true"})
    assert answer.status_code == 200, answer.text
    assert "candidates" not in answer.json()
    objects = answer.json()["objects"]
    assert [[candidate["score"] for candidate in each["candidates"]] for each in objects] == [[0.9, 0.7, 0.5]] * len(
        corners
    )
    asked = [prompt.box if prompt.points is None else prompt.points[0] for _, prompt, _ in backend.asked]
    assert [corner[:2].tolist() for corner in asked if corner is not None] == corners


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"boxes": "[1, 2, 9, 9]"}, "boxes must be a JSON list [[x1, y1, x2, y2], ...], not '[1, 2, 9, 9]'"),
        ({"boxes": "[]"}, "no prompt"),
        ({"boxes": "[[1, 2, 9, 9]]", "box": "[1, 2, 9, 9]"}, "box is for one object; give boxes for several"),
        ({"boxes": "[[1, 2, 9, 9]]", "points": "[1, 2]"}, "the points of several objects must be a JSON list"),
        ({"boxes": "[[1, 2, 9, 9]]", "points": "[[[1, 2]], [[3, 4]]]"}, "not 2 points, 1 boxes"),
        ({"points": "[[[1, 2]], [[3, 4]]]", "labels": "[1, 0]"}, "the labels of several objects must be a JSON list"),
        ({"points": "[[[1, 2]], [[3, 4], [5, 6], [7, 8]]]"}, "too many points: 3; at most 2 are accepted"),
        ({"points": "[[[1, 2]], [[3]]]"}, "each point must be [x, y], not '[3]'"),
        ({"mask_input": "[1]"}, "mask_input must be a candidate's low_res_logits"),
    ],
)
def test_an_invalid_prompt_of_several_objects_is_refused(
    gateway: TestClient, backend: Boxes, fields: dict[str, str], fault: str
) -> None:
    answer = gateway.post("/v1/predict", files={"image": PHOTO}, data=fields)
    assert answer.status_code == 400
    assert fault in answer.json()["detail"]
    assert backend.asked == []


def test_the_backend_is_closed_with_the_application(backend: Boxes) -> None:
    with TestClient(create_app(Settings(), backend)):
        assert backend.closed == 0
    assert backend.closed == 1


def test_masks_are_described_in_the_format_asked_for(gateway: TestClient) -> None:
    answer = gateway.post("/v1/predict", files={"image": PHOTO}, data={**FIELDS, "masks": "polygons"})
    (candidate,) = answer.json()["candidates"]
    (polygon,) = candidate["mask"]["polygons"]
    assert sorted(map(tuple, polygon["exterior"])) == [(3, 4), (3, 8), (12, 4), (12, 8)]
    assert candidate["score"] == 0.9
