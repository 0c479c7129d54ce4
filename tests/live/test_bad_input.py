"""Invalid input to ensemble, client and gateway: it gets a status and one line; the next request works."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import golden
import numpy as np
import pytest
import requests
import tritonclient.grpc
from pictures import fresh_image
from PIL import Image
from repository import infer
from sam3_triton import ImageNotCachedError, InvalidInputError, Sam3Client
from tritonclient.utils import InferenceServerException

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()  # 600 x 400
POINTS = np.array([[[300, 200]]], np.float32)
NAN, INF = float("nan"), float("inf")
GOOD = {"IMAGE": PHOTO, "POINTS": POINTS}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def floats(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def animated_without_frames() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "GIF")
    return buffer.getvalue()[:20]


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "not an image": ({"IMAGE": b"hello", "POINTS": POINTS}, "invalid image: its 5 bytes are none of PNG, JPEG"),
    "truncated image": ({"IMAGE": PHOTO[:50_000], "POINTS": POINTS}, "invalid image: it is damaged or truncated"),
    "header alone": ({"IMAGE": animated_without_frames(), "POINTS": POINTS}, "invalid image"),
    "empty image": ({"IMAGE": b"", "POINTS": POINTS}, "invalid image: it is empty"),
    "points of a wrong shape": ({"IMAGE": PHOTO, "POINTS": floats([[1, 2, 3]])}, "POINTS"),
    "points of no object": ({"IMAGE": PHOTO, "POINTS": floats([1, 2])}, "POINTS"),
    "points of a wrong type": ({"IMAGE": PHOTO, "POINTS": ints(1, 2).reshape(1, 1, 2)}, "POINTS"),
    "NaN": (
        {"IMAGE": PHOTO, "POINTS": floats([[NAN, 2]])},
        r"POINTS\[0, 0\] is \(nan, 2.0\); coordinates must be finite",
    ),
    "infinity": ({"IMAGE": PHOTO, "POINTS": floats([[1, -INF]])}, "must be finite"),
    "point outside": (
        {"IMAGE": PHOTO, "POINTS": floats([[601.5, 2]])},
        r"POINTS\[0, 0\] is \(601.5, 2\), outside the image",
    ),
    "label 2": ({**GOOD, "LABELS": ints([2])}, r"LABELS\[0, 0\] is 2"),
    "label -1": ({**GOOD, "LABELS": ints([-1])}, r"LABELS\[0, 0\] is -1"),
    "too many labels": ({**GOOD, "LABELS": ints([1, 0])}, r"LABELS must have the shape \[1, 1\] for these POINTS"),
    "labels alone": ({"IMAGE": PHOTO, "LABELS": ints([1])}, "without POINTS"),
    "box with x2 = x1": ({"IMAGE": PHOTO, "BOXES": floats([10, 10, 10, 20])}, "x1 < x2"),
    "box with y2 < y1": ({"IMAGE": PHOTO, "BOXES": floats([10, 30, 20, 20])}, "y1 < y2"),
    "box outside": ({"IMAGE": PHOTO, "BOXES": floats([10, 400, 20, 420])}, "wholly outside the image of 600 x 400"),
    "box of three": ({"IMAGE": PHOTO, "BOXES": floats([1, 2, 3])}, "BOXES"),
    "NaN in a box": ({"IMAGE": PHOTO, "BOXES": floats([1, NAN, 3, 4])}, "must be finite"),
    "no prompt": ({"IMAGE": PHOTO}, "no prompt"),
    "parts of different objects": (
        {**GOOD, "BOXES": floats([1, 2, 3, 4], [5, 6, 7, 8])},
        "each part of a prompt must be for the same objects, not POINTS for 1, BOXES for 2",
    ),
    "an object without a prompt": (
        {"IMAGE": PHOTO, "POINTS": floats([[1, 2]], [[3, 4]]), "LABELS": ints([1], [-2])},
        "object 1 has no point, no box and no mask input",
    ),
    "33 objects": (
        {"IMAGE": PHOTO, "BOXES": floats(*[[1, 2, 3, 4]] * 33)},
        "33 objects, but a request may have at most 32: send several requests",
    ),
    "1025 points": (
        {"IMAGE": PHOTO, "POINTS": floats([[1, 2]] * 1025)},
        "1025 points, but a request may have at most 1024",
    ),
    "no image": ({"POINTS": POINTS}, "neither IMAGE nor CACHED_IMAGE_ID"),
    "an id of another image": (
        {**GOOD, "CACHED_IMAGE_ID": b"0" * 64},
        "CACHED_IMAGE_ID is '0000.* the sha256 of IMAGE",
    ),
    "mask of a wrong size": (
        {**GOOD, "MASK_INPUT": np.zeros((1, 95, 96), np.float32)},
        r"MASK_INPUT has the shape \[1, 95, 96\]",
    ),
    "NaN in a mask": ({**GOOD, "MASK_INPUT": np.full((1, 96, 96), NAN, np.float32)}, "NaN or infinity"),
}


@pytest.mark.parametrize("fault", INVALID)
def test_the_ensemble_answers_invalid_arg(raw: Callable, fault: str) -> None:
    inputs, message = INVALID[fault]
    with pytest.raises(InferenceServerException, match=message) as caught:
        raw(inputs)
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")
    assert "Traceback" not in caught.value.message()
    assert "\n" not in caught.value.message().strip()
    assert raw(GOOD)["MASKS"].shape == (1, 1)


@pytest.mark.parametrize("image_id", [b"0" * 64, b"nonsense", b"\xff\xfe", b""])
def test_the_ensemble_answers_not_found_to_an_unknown_id(raw: Callable, image_id: bytes) -> None:
    with pytest.raises(InferenceServerException, match="is cached; send IMAGE") as caught:
        raw({"CACHED_IMAGE_ID": image_id, "POINTS": POINTS})
    assert caught.value.status() in ("StatusCode.NOT_FOUND", "404")
    assert raw(GOOD)["MASKS"].shape == (1, 1)


def test_an_unexpected_error_in_a_model_sends_no_traceback(server) -> None:
    inputs = {
        "MASK_LOGITS": np.zeros((1, 1, 1, 96, 96), np.float32),
        "SCORES": np.zeros((1, 1, 1), np.float32),
        "HAS_PROMPT": np.array([True]),
        "ORIGINAL_SIZE": ints(0, 0),
    }
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException) as caught:
            infer(client, tritonclient.grpc, inputs, ("MASKS",), model="sam3_mask_postprocess")
        assert caught.value.status() == "StatusCode.INTERNAL"
        assert caught.value.message() == "sam3_mask_postprocess failed; the server's log says why"
        good = infer(
            client, tritonclient.grpc, {**inputs, "ORIGINAL_SIZE": ints(4, 5)}, ("MASKS",), "sam3_mask_postprocess"
        )
    assert Image.open(io.BytesIO(good["MASKS"][0, 0])).size == (5, 4)


def test_one_bad_request_of_a_batch_fails_alone(server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Sam3Client(server.grpc_url) as client:
        image_id = client.set_image(fresh_image())

        def click(number: int) -> str:
            try:
                client.predict(image_id=image_id, points=[[10 if number % 3 else 5000, 10]])
                return "mask"
            except InvalidInputError as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(click, range(48)))
    fault = "POINTS[0, 0] is (5000, 10), outside the image of 120 x 80 pixels"
    assert answers == ["mask" if number % 3 else fault for number in range(48)]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"image": b"hello", "points": [[1, 1]]}, InvalidInputError, "^invalid image: its 5 bytes are none of PNG"),
        ({"image": b"", "points": [[1, 1]]}, InvalidInputError, "^invalid image: it is empty"),
        ({"image": PHOTO[:50_000], "points": [[1, 1]]}, InvalidInputError, "^invalid image: it is damaged"),
        ({"image": PHOTO, "points": [[900, 1]]}, InvalidInputError, r"^POINTS\[0, 0\] is \(900, 1\), outside"),
        ({"image": PHOTO, "box": [601, 1, 700, 20]}, InvalidInputError, r"^BOXES\[0\] .* wholly outside the image"),
        (
            {"image": PHOTO, "points": [[1, 1]], "mask_input": np.zeros((9, 9))},
            InvalidInputError,
            "^MASK_INPUT has the",
        ),
        ({"image": PHOTO}, InvalidInputError, "^no prompt"),
        ({"points": [[1, 1]]}, InvalidInputError, "^give an image or an image_id"),
        ({"image": PHOTO, "image_id": "0" * 64, "points": [[1, 1]]}, InvalidInputError, "and not both"),
        ({"image_id": "0" * 64, "points": [[1, 1]]}, ImageNotCachedError, "^no image with the id"),
    ],
)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_client_raises(server, scheme: str, arguments: dict, kind: type[Exception], message: str) -> None:
    url = server.grpc_url if scheme == "grpc" else f"http://{server.http_url}"
    with Sam3Client(url) as client:
        with pytest.raises(kind, match=message) as caught:
            client.predict(**arguments)
        assert type(caught.value) is kind
        assert client.predict(PHOTO, points=[[300, 200]]).masks.shape == (1, 400, 600)


@pytest.mark.parametrize(
    ("image", "data", "detail"),
    [
        (b"", {"points": "[[1, 1]]"}, "invalid image: it is empty"),
        (PHOTO[:50_000], {"points": "[[1, 1]]"}, "invalid image: it is damaged"),
        (None, {"points": "[[1, 1]]"}, "image: is missing"),
        (PHOTO, {}, "points: is missing"),
        (PHOTO, {"points": ""}, "points"),
        (PHOTO, {"points": "here"}, "points must be JSON, not 'here'"),
        (PHOTO, {"points": "[[1, 2, 3]]"}, "each point must be [x, y], not '[1, 2, 3]'"),
        (PHOTO, {"points": "[1, 2, 3]"}, "even number of values"),
        (PHOTO, {"points": "[]"}, "points must be a JSON list"),
        (PHOTO, {"points": "[[NaN, 1]]"}, "points must be finite"),
        (PHOTO, {"points": "[[Infinity, 1]]"}, "points must be finite"),
        (PHOTO, {"points": "[[1e400, 1]]"}, "points must be finite"),
        (PHOTO, {"points": "[[1, 1]]", "labels": "x"}, "labels must be JSON"),
        (PHOTO, {"points": "[[1, 1]]", "labels": "[2]"}, "a label must be 1 (foreground) or 0 (background), not 2"),
        (PHOTO, {"points": "[[1, 1]]", "labels": "[1, 0]"}, "1 points, but 2 labels"),
        (PHOTO, {"points": "[[1, 1]]", "labels": str(10**30)}, "label"),
        (PHOTO, {"points": "[[1, 1]]", "multimask": "maybe"}, "multimask must be true or false"),
    ],
)
def test_the_gateway_answers_400(gateway: str, image: bytes | None, data: dict[str, str], detail: str) -> None:
    files = {} if image is None else {"image": ("photo.png", image)}
    answer = requests.post(f"{gateway}/predict/mask", files=files or {"x": b""}, data=data, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith(detail) or detail in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    good = requests.post(f"{gateway}/predict/mask", files={"image": PHOTO}, data={"points": "[[300, 200]]"}, timeout=60)
    assert good.status_code == 200


@pytest.mark.parametrize("body", [b"", b"nonsense", b"--x\r\n"])
def test_a_body_that_is_not_a_form_is_400(gateway: str, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(f"{gateway}/predict/mask", data=body, headers=headers, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["detail"]
