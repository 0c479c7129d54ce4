"""Invalid input to sam3_concept gets a status and one line; the next request works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import golden
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from repository import infer
from tritonclient.utils import InferenceServerException

PHOTO = (golden.FOLDER / "coffee.png").read_bytes()  # 600 x 400
NAN, INF = float("nan"), float("inf")
GOOD = {"IMAGE": PHOTO, "TEXT": b"cat"}
BOX = [150, 80, 450, 320]

Find = Callable[[dict[str, Any]], dict[str, Any]]


def floats(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def boxes(*values: Any, **others: Any) -> dict[str, Any]:
    return {**GOOD, "BOXES": floats(*values), **others}


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "not an image": ({**GOOD, "IMAGE": b"hello"}, "invalid image: its 5 bytes are none of"),
    "no image": ({"TEXT": b"cat"}, "neither IMAGE nor CACHED_IMAGE_ID was given"),
    "another image's id": ({**GOOD, "CACHED_IMAGE_ID": b"0" * 64}, "but the sha256 of IMAGE is"),
    "neither text nor boxes": ({"IMAGE": PHOTO}, "no prompt: give TEXT, BOXES or both"),
    "empty boxes": ({"IMAGE": PHOTO, "BOXES": np.zeros((0, 4), np.float32)}, "no prompt: give TEXT, BOXES or both"),
    "empty text": ({**GOOD, "TEXT": b""}, "TEXT is empty"),
    "blanks": ({**GOOD, "TEXT": b" \n\t"}, "TEXT is empty"),
    "two texts": ({**GOOD, "TEXT": np.array([b"cat", b"dog"], np.object_)}, "TEXT"),
    "not UTF-8": ({**GOOD, "TEXT": b"caf\xe9"}, r"TEXT is not UTF-8 \(byte 3\)"),
    "control characters": ({**GOOD, "TEXT": b"a\x00cat"}, r"TEXT holds the control character U\+0000"),
    "escape": ({**GOOD, "TEXT": b"\x1b[0m"}, r"TEXT holds the control character U\+001B"),
    "huge text": ({**GOOD, "TEXT": b"x" * 100_000}, "TEXT has 100000 bytes, but may have at most 65536"),
    "too many boxes": (boxes(*[BOX] * 33), "33 BOXES, but a request may have at most 32"),
    "boxes of a wrong shape": (boxes([1, 2, 3]), "BOXES"),
    "a box without area": (boxes([10, 10, 10, 20]), r"BOXES\[0\] is \(10, 10, 10, 20\), not x1 < x2, y1 < y2"),
    "a box that is turned": (boxes(BOX, [50, 10, 10, 20]), r"BOXES\[1\] is \(50, 10, 10, 20\), not x1 < x2"),
    "a box outside": (boxes([600, 0, 700, 50]), "wholly outside the image of 600 x 400 pixels"),
    "NaN in a box": (boxes([NAN, 0, 700, 50]), "coordinates must be finite"),
    "infinity in a box": (boxes([0, 0, INF, 50]), "coordinates must be finite"),
    "label 2": (boxes(BOX, BOX_LABELS=ints(2)), r"BOX_LABELS\[0\] is 2; a label is 1 \(more like this\) or 0"),
    "an empty slot's label": (boxes(BOX, BOX_LABELS=ints(-10)), r"BOX_LABELS\[0\] is -10"),
    "too many labels": (boxes(BOX, BOX_LABELS=ints(1, 0)), "2 BOX_LABELS for 1 BOXES"),
    "no labels": (boxes(BOX, BOX_LABELS=ints()), "0 BOX_LABELS for 1 BOXES"),
    "labels alone": ({**GOOD, "BOX_LABELS": ints(1)}, "1 BOX_LABELS were given without BOXES"),
    "threshold above 1": ({**GOOD, "THRESHOLD": floats(1.01)}, r"THRESHOLD is 1.01, not from 0 to 1"),
    "threshold below 0": ({**GOOD, "THRESHOLD": floats(-0.5)}, r"THRESHOLD is -0.5, not from 0 to 1"),
    "threshold NaN": ({**GOOD, "THRESHOLD": floats(NAN)}, r"THRESHOLD is nan, not from 0 to 1"),
    "two thresholds": ({**GOOD, "THRESHOLD": floats(0.1, 0.2)}, "THRESHOLD"),
    "no instances": ({**GOOD, "MAX_INSTANCES": ints(0)}, "MAX_INSTANCES is 0, not at least 1"),
    "negative instances": ({**GOOD, "MAX_INSTANCES": ints(-1)}, "MAX_INSTANCES is -1, not at least 1"),
    "IoU 0": ({**GOOD, "NMS_IOU": floats(0)}, "NMS_IOU is 0, not above 0 and at most 1"),
    "IoU above 1": ({**GOOD, "NMS_IOU": floats(2)}, "NMS_IOU is 2, not above 0 and at most 1"),
    "IoU NaN": ({**GOOD, "NMS_IOU": floats(NAN)}, "NMS_IOU is nan, not above 0 and at most 1"),
}


@pytest.fixture(scope="module", params=["grpc", "http"])
def find(request: pytest.FixtureRequest, serve, exported_concepts) -> Iterator[Find]:
    server = serve(exported_concepts)
    module = {"grpc": tritonclient.grpc, "http": tritonclient.http}[request.param]
    client = module.InferenceServerClient(server.grpc_url if request.param == "grpc" else server.http_url)
    yield lambda inputs: infer(client, module, inputs, ("MASKS", "SCORES", "TOTAL", "TRUNCATED"), "sam3_concept")
    client.close()


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_gets_one_line_and_the_next_request_works(find: Find, name: str) -> None:
    inputs, message = INVALID[name]
    with pytest.raises(InferenceServerException, match=message) as caught:
        find(inputs)
    assert caught.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")
    assert "\n" not in caught.value.message()
    assert "Traceback" not in caught.value.message()
    assert find(GOOD)["TOTAL"].shape == (1,)


@pytest.mark.parametrize(
    "inputs",
    [
        {**GOOD, "TEXT": b"word " * 2000},
        {**GOOD, "TEXT": "日本語 🙂".encode()},
        boxes(*[BOX] * 32),
        boxes([-50, -50, 700, 500]),
        {"IMAGE": PHOTO, "BOXES": floats(BOX), "BOX_LABELS": ints(0)},
        {**GOOD, "THRESHOLD": floats(0), "MAX_INSTANCES": ints(2**31 - 1)},
        {**GOOD, "THRESHOLD": floats(1), "NMS_IOU": floats(1)},
    ],
    ids=["long text", "other scripts", "32 boxes", "overhanging box", "only a negative example", "all", "bounds"],
)
def test_what_is_unusual_but_valid_is_answered(find: Find, inputs: dict[str, Any]) -> None:
    answer = find(inputs)
    assert len(answer["MASKS"]) == len(answer["SCORES"]) <= answer["TOTAL"][0]


def test_many_failures_at_a_time_hang_nobody(serve, exported_concepts) -> None:
    # With two steps at a time, Triton hung within some hundred of these.
    faulty = [{"TEXT": b"cat"}, {**GOOD, "TEXT": b""}, {**GOOD, "IMAGE": b"hello"}, {**GOOD, "THRESHOLD": floats(2)}]
    with tritonclient.grpc.InferenceServerClient(serve(exported_concepts).grpc_url) as client:

        def status(inputs: dict[str, Any]) -> str | None:
            try:
                infer(client, tritonclient.grpc, inputs, ("SCORES",), "sam3_concept", timeout_s=30)
            except InferenceServerException as error:
                return error.status()
            return None

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(status, faulty * 100))
        assert set(statuses) == {"StatusCode.INVALID_ARGUMENT"}
        assert status(GOOD) is None
