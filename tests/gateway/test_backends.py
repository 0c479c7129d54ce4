"""The routes with a backend that is not Triton: `create_app` takes any `Backend`."""

from __future__ import annotations

import io
from collections.abc import Iterator
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
    DeadlineExceededError,
    EncodedImage,
    ImageNotCachedError,
    InvalidInputError,
    Prediction,
    PredictionError,
    Prompt,
    Sam3Error,
    ServerUnavailableError,
)

WIDTH, HEIGHT = 12, 8
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

    async def segment(self, image: EncodedImage | CachedImage, prompt: Prompt, *, logits: bool) -> Prediction:
        self.asked.append((image, prompt, logits))
        if self.error is not None:
            raise self.error
        assert prompt.points is not None
        x, y = prompt.points[0].astype(int)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[y:, x:] = 255
        count = 3 if prompt.multimask else 1
        return Prediction((png(mask),) * count, np.linspace(0.9, 0.5, count), image.image_id, False, None)

    async def prefetch(self, image: EncodedImage) -> bool:
        return True

    async def is_ready(self) -> bool:
        return self.error is None

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


def test_the_backend_is_closed_with_the_application(backend: Boxes) -> None:
    with TestClient(create_app(Settings(), backend)):
        assert backend.closed == 0
    assert backend.closed == 1


def test_masks_are_described_in_the_format_asked_for(gateway: TestClient) -> None:
    answer = gateway.post("/v1/predict", files={"image": PHOTO}, data={**FIELDS, "masks": "polygons"})
    (candidate,) = answer.json()["candidates"]
    (polygon,) = candidate["mask"]["polygons"]
    assert sorted(map(tuple, polygon["exterior"])) == [(3, 4), (3, 7), (11, 4), (11, 7)]
    assert candidate["score"] == 0.9
