"""Several objects in one request: the same masks as one by one, in every interface, within the documented limit."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import requests
from observer import Observer
from pictures import fresh_image
from sam3_triton import AsyncSam3Client, InvalidInputError, Prediction, Prompt, Sam3Client
from sam3_triton.cli import main

PHOTO = golden.FOLDER / "coffee.png"  # 600 x 400
TOLERANCE = 1e-4
MAX_OBJECTS = 32
BOXES = [[150, 80, 450, 320], [-10, -5, 200, 150], [300, 100, 640, 420]]


def group(case: golden.Case) -> tuple[Any, ...]:
    """Cases of one group fit into one request."""
    parts = (case.prompt[part] is not None for part in ("box", "mask_input"))
    return case.photo.name, case.unstable, case.prompt["multimask"], *parts


GROUPS = [list(cases) for _, cases in itertools.groupby(sorted(golden.cases(), key=group), group)]


def boxes(count: int) -> np.ndarray:
    """Boxes in a photo of 600 x 400 pixels."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 0.6, (count, 2))
    return np.hstack([corners, corners + rng.uniform(0.1, 0.4, (count, 2))]) * [600, 400, 600, 400]


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert np.abs(found.low_res_logits - expected.low_res_logits).max() <= TOLERANCE
    assert np.abs(found.scores - expected.scores).max() <= TOLERANCE


@pytest.mark.parametrize("cases", GROUPS, ids=lambda cases: cases[0].name)
@pytest.mark.parametrize("profile", [None, "torchscript"], ids=["onnx", "torchscript"])
def test_golden_cases_together_are_metas(
    cases: list[golden.Case], profile: str | None, serve, exported: Path, request: pytest.FixtureRequest
) -> None:
    repository = request.getfixturevalue("exported_unstable") if cases[0].unstable else exported
    prompts = [Prompt.of(**case.prompt) for case in cases]
    with Sam3Client(serve(repository, profile).grpc_url) as client:
        answers = client.segment_objects(cases[0].photo, prompts)
    for answer, case in zip(answers, cases, strict=True):
        assert np.abs(answer.scores - case.scores).max() <= golden.SCORE_TOLERANCE
        assert np.abs(answer.low_res_logits - case.low_res_logits).max() <= golden.LOGIT_TOLERANCE
        for mask, expected in zip(answer.masks, case.masks, strict=True):
            assert golden.iou(mask, expected) >= golden.MINIMUM_IOU


@pytest.mark.parametrize("count", [1, 2, 7, 20])
@pytest.mark.parametrize("with_points", [False, True], ids=["boxes", "boxes and points"])
@pytest.mark.parametrize("multimask", [False, True], ids=["single", "candidates"])
def test_boxes_together_are_boxes_one_by_one(server, count: int, with_points: bool, multimask: bool) -> None:
    drawn = boxes(count)
    # Objects differ in their number of points.
    points = [[box.reshape(2, 2).mean(0)] * (1 + index % 3) for index, box in enumerate(drawn)] if with_points else None
    with Sam3Client(server.grpc_url) as client:
        together = client.predict_objects(PHOTO, boxes=drawn, points=points, multimask=multimask)
        assert len(together) == count
        for index, box in enumerate(drawn):
            own = None if points is None else points[index]
            alone = client.predict(PHOTO, box=box, points=own, multimask=multimask)
            assert_same(together[index], alone)
            # Some processors round the two differently, which flips a pixel whose logit is almost 0.
            for mask, expected in zip(together[index].masks, alone.masks, strict=True):
                assert (mask != expected).sum() <= 2


def test_objects_are_refined_by_their_own_masks(server) -> None:
    points = [[[300, 200]], [[60, 60]]]
    with Sam3Client(server.grpc_url) as client:
        first = client.predict_objects(PHOTO, points=points)
        masks = [answer.low_res_logits[0] for answer in first]
        together = client.predict_objects(PHOTO, points=points, mask_inputs=masks)
        for index, answer in enumerate(together):
            assert_same(answer, client.predict(PHOTO, points=points[index], mask_input=masks[index]))
            assert np.abs(answer.low_res_logits - first[index].low_res_logits).max() > 0.1
        # A mask alone is a prompt, too.
        for answer, mask in zip(client.predict_objects(PHOTO, mask_inputs=masks), masks, strict=True):
            assert_same(answer, client.predict(PHOTO, mask_input=mask))


def test_the_async_client_and_http_give_the_same(server) -> None:
    async def ask() -> list[Prediction]:
        async with AsyncSam3Client(server.grpc_url) as client:
            return await client.predict_objects(PHOTO, boxes=BOXES)

    with Sam3Client(f"http://{server.http_url}") as client:
        expected = client.predict_objects(PHOTO, boxes=BOXES)
    for answer, same in zip(asyncio.run(ask()), expected, strict=True):
        assert_same(answer, same)


def test_the_decoder_runs_once_for_all_objects(server) -> None:
    observer = Observer(server)
    with Sam3Client(server.grpc_url) as client:
        image_id = client.set_image(fresh_image())
        before = observer.counts("sam3_mask_decoder")
        client.predict_objects(image_id=image_id, boxes=[[10, 10, 60, 60]] * 20)
        after = observer.counts("sam3_mask_decoder")
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]


def test_the_limit_is_reached_and_named(server) -> None:
    with Sam3Client(server.grpc_url) as client:
        assert len(client.predict_objects(PHOTO, boxes=boxes(MAX_OBJECTS), logits=False)) == MAX_OBJECTS
        with pytest.raises(InvalidInputError, match="33 objects, but a request may have at most 32"):
            client.predict_objects(PHOTO, boxes=boxes(MAX_OBJECTS + 1))
        assert client.predict(PHOTO, box=BOXES[0])


def post(gateway: str, status: int = 200, path: str = "/v1/predict", **fields: str) -> requests.Response:
    answer = requests.post(f"{gateway}{path}", files={"image": PHOTO.read_bytes()}, data=fields, timeout=60)
    assert answer.status_code == status, answer.text
    return answer


def pngs(answer: dict[str, Any]) -> list[bytes]:
    """The masks of one object's candidates."""
    return [base64.b64decode(candidate["mask"]["data"]) for candidate in answer["candidates"]]


def test_the_gateway_answers_with_objects(gateway: str) -> None:
    together = post(gateway, boxes=json.dumps(BOXES), multimask="true").json()
    assert "candidates" not in together
    for each, box in zip(together["objects"], BOXES, strict=True):
        alone = post(gateway, box=json.dumps(box), multimask="true").json()
        assert "objects" not in alone
        assert pngs(each) == pngs(alone)
        assert [one["score"] for one in each["candidates"]] == pytest.approx(
            [one["score"] for one in alone["candidates"]], abs=TOLERANCE
        )


def test_nested_points_and_labels_are_of_several_objects(gateway: str) -> None:
    points, labels = [[[300, 200], [50, 50]], [[60, 60]]], [[1, 0], [1]]
    together = post(gateway, points=json.dumps(points), labels=json.dumps(labels)).json()
    for each, own, own_labels in zip(together["objects"], points, labels, strict=True):
        alone = post(gateway, points=json.dumps(own), labels=json.dumps(own_labels)).json()
        assert pngs(each) == pngs(alone)


def test_the_gateway_refines_several_objects(gateway: str) -> None:
    first = post(gateway, boxes=json.dumps(BOXES), logits="true").json()
    masks = [each["candidates"][0]["low_res_logits"] for each in first["objects"]]
    refined = post(gateway, boxes=json.dumps(BOXES), mask_input=json.dumps(masks)).json()
    alone = post(gateway, box=json.dumps(BOXES[1]), mask_input=json.dumps(masks[1])).json()
    assert pngs(refined["objects"][1]) == pngs(alone)
    assert pngs(refined["objects"][1]) != pngs(first["objects"][1])
    by_mask = post(gateway, mask_input=json.dumps(masks[1])).json()
    assert len(pngs(by_mask)) == 1


def test_the_masks_of_many_objects_are_one_large_field(gateway: str) -> None:
    drawn = json.dumps(boxes(MAX_OBJECTS).tolist())
    first = post(gateway, boxes=drawn, logits="true").json()
    masks = json.dumps([each["candidates"][0]["low_res_logits"] for each in first["objects"]])
    assert len(masks) > 1 << 20
    assert len(post(gateway, boxes=drawn, mask_input=masks).json()["objects"]) == MAX_OBJECTS


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_objects_come_in_every_format(gateway: str, masks: str) -> None:
    together = post(gateway, boxes=json.dumps(BOXES), masks=masks).json()
    alone = post(gateway, box=json.dumps(BOXES[0]), masks=masks).json()
    assert together["objects"][0]["candidates"][0]["mask"] == alone["candidates"][0]["mask"]


def test_a_box_that_overhangs_is_not_clipped(gateway: str) -> None:
    over = post(gateway, box="[-150, -100, 300, 200]", logits="true").json()["candidates"][0]
    clipped = post(gateway, box="[0, 0, 300, 200]", logits="true").json()["candidates"][0]
    assert over["low_res_logits"] != clipped["low_res_logits"]
    fault = post(gateway, 400, boxes="[[0, 0, 300, 200], [-20, -20, -10, -10]]").json()["detail"]
    assert fault == "BOXES[1] is (-20, -20, -10, -10), wholly outside the image of 600 x 400 pixels"


@pytest.mark.parametrize("path", ["/predict/mask", "/v1/predict"])
def test_booleans_are_labels(gateway: str, path: str) -> None:
    points = "[[300, 200], [50, 50]]"
    numbers, booleans, all_foreground = (
        post(gateway, path=path, points=points, labels=labels) for labels in ("[1, 0]", "[true, false]", "[1, 1]")
    )
    if path == "/predict/mask":
        assert booleans.content == numbers.content != all_foreground.content
    else:
        assert pngs(booleans.json()) == pngs(numbers.json()) != pngs(all_foreground.json())


def test_more_objects_than_the_limit_are_400(gateway: str) -> None:
    fault = post(gateway, 400, boxes=json.dumps(boxes(MAX_OBJECTS + 1).tolist())).json()["detail"]
    assert fault == "33 objects, but a request may have at most 32: send several requests"
    assert len(post(gateway, boxes=json.dumps(BOXES)).json()["objects"]) == 3


def test_the_command_takes_several_boxes(server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ["--box=" + ",".join(map(str, box)) for box in BOXES[:2]]
    outputs = ["-o", str(tmp_path / "mask.png"), "--overlay", str(tmp_path / "overlay.png")]
    assert main(["predict", str(PHOTO), *drawn, "--multimask", *outputs, "--url", server.grpc_url]) == 0
    names = ["mask.png", "mask.2.png", "mask.3.png", "mask.box2.png", "mask.box2.2.png", "mask.box2.3.png"]
    printed = capsys.readouterr().out.splitlines()
    assert [Path(line.split("  ")[0]).name for line in printed] == [*names, "overlay.png"]
    with Sam3Client(server.grpc_url) as client:
        expected = [png for box in BOXES[:2] for png in client.predict(PHOTO, box=box, multimask=True).mask_pngs]
    assert [(tmp_path / name).read_bytes() for name in names] == expected


@pytest.mark.parametrize("points", ["[[700, 1]]", "[[-300, -200]]", "[[300, 200], [5000, 9000]]"])
def test_the_simple_api_takes_points_outside_the_image(gateway: str, server, points: str) -> None:
    mask = post(gateway, path="/predict/mask", points=points).content
    with Sam3Client(server.grpc_url) as client:
        expected = client.segment(PHOTO, Prompt.of(json.loads(points), points_outside=True))
    assert mask == expected.mask_pngs[0]
    assert "outside the image" in post(gateway, 400, points=points).json()["detail"]
