"""Concept prompts on the page: words and example boxes, and the instances that they find."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from browsing import Visitor, fields
from PIL import Image
from playwright.sync_api import Route, expect

CONCEPTS = "/v1/concepts"
CUP_BOX = ((150, 80), (450, 320))
# A threshold that a few of the golden checkpoint's instances pass.
THRESHOLD = 0.45


@pytest.fixture
def finder(visit: Callable[..., Visitor], concept_gateway: str) -> Visitor:
    """The page in front of a server with concept prompts. The slider is at `THRESHOLD`."""
    visitor = visit(concept_gateway)
    lower_threshold(visitor)
    return visitor


def lower_threshold(visitor: Visitor) -> None:
    """Moves the slider, which is shown with instances only, to `THRESHOLD`, and clears the page."""
    visitor.find("spoon")
    visitor.answer(lambda: visitor.set_threshold(THRESHOLD), CONCEPTS)
    visitor.page.click("#clear")
    visitor.settle()
    visitor.requests.clear()


def instances_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The instances of all texts."""
    return [instance for result in answer["results"] for instance in result["instances"]]


def mask_of(instance: dict[str, Any]) -> np.ndarray:
    """bool [H, W]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(instance["mask"]["data"])))) > 0


def listed_scores(visitor: Visitor) -> list[str]:
    return visitor.page.locator("#instances .score").all_inner_texts()


def shown_scores(instances: list[dict[str, Any]], above: float = 0) -> list[str]:
    return [f"{one['score']:.2f}" for one in instances if one["score"] > above]


def place_in_one(instances: list[dict[str, Any]]) -> tuple[tuple[int, int], int]:
    """A pixel deep inside an instance's mask, and the index of the smallest instance there."""
    masks = np.array([mask_of(one) for one in instances])
    x, y = deepest(masks[0])
    there = np.flatnonzero(masks[:, y, x])
    return (x, y), int(min(there, key=lambda index: masks[index].sum()))


def deepest(mask: np.ndarray) -> tuple[int, int]:
    """The pixel of a mask that is farthest from its edge and from the picture's."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y)


def colours(visitor: Visitor) -> np.ndarray:
    """The instances' colours in the list, [K, 3], 0 to 255."""
    styles = visitor.page.eval_on_selector_all(
        "#instances button", "all => all.map((one) => getComputedStyle(one).borderLeftColor)"
    )
    return np.array([[float(value) for value in re.findall(r"[\d.]+", style)] for style in styles])


def assert_tinted(before: np.ndarray, after: np.ndarray, masks: list[np.ndarray], tints: np.ndarray) -> None:
    """Asserts that each mask is tinted in its colour, the best on top, and nothing else is.

    Args:
        before: the canvas without instances, uint8 [H, W, 3].
        after: the canvas with them.
        masks: bool [H, W] each, best first.
        tints: the colour of each.
    """
    expected = before.astype(float)
    compared = np.ones(before.shape[:2], bool)
    for mask, tint in reversed(list(zip(masks, tints, strict=True))):
        expected[mask] = 0.55 * expected[mask] + 0.45 * tint
        bits, kernel = mask.astype(np.uint8), np.ones((7, 7), np.uint8)
        compared &= cv2.dilate(bits, kernel) == cv2.erode(bits, kernel)  # the outline lies between
        y, x = np.argwhere(mask)[0]
        compared[max(0, y - 24) : max(24, y + 2), max(0, min(x, 520) - 4) : x + 80] = False  # number and score
    assert compared.sum() > 2000
    assert len({tuple(tint) for tint in tints}) == len(tints)
    assert np.abs(after - expected).max(axis=2)[compared].mean() < 3


def test_words_find_every_instance(finder: Visitor) -> None:
    before = finder.seen()
    answer = finder.find("spoon")
    instances = instances_of(answer)
    assert len(instances) > 1
    assert listed_scores(finder) == shown_scores(instances)
    assert finder.text("#status").startswith(f"{len(instances)} instances of “spoon”")
    assert finder.text("#cached") == "image cached"
    assert_tinted(before, finder.seen(), [mask_of(one) for one in instances], colours(finder))
    (request,) = finder.sent(CONCEPTS)
    assert fields(request) == {"image_id": answer["image_id"], "texts": '["spoon"]', "threshold": str(THRESHOLD)}
    assert finder.sent("/v1/predict") == []


def test_several_texts_are_counted_apart(finder: Visitor) -> None:
    answer = finder.find(" spoon, A red coffee cup ,, spoon")
    assert fields(finder.requests[-1])["texts"] == '["spoon","A red coffee cup"]'
    named = [result["text"] for result in answer["results"] for _ in result["instances"]]
    assert finder.page.locator("#instances .what").all_inner_texts() == named
    for text in ("spoon", "A red coffee cup"):
        assert re.search(rf"\b{named.count(text)} instances? of “{text}”", finder.text("#status"))


def test_no_instance_is_said_plainly(finder: Visitor) -> None:
    before = finder.seen()
    finder.find("spoon")
    finder.set_threshold(0.95)
    assert instances_of(finder.find("spoon")) == []
    assert finder.text("#status").startswith("No instance of “spoon” above 0.95")
    assert "None with a score above 0.95" in finder.text("#no-instances")
    assert finder.page.get_attribute("#download-all", "aria-disabled") == "true"
    assert not finder.page.is_visible("#error")
    np.testing.assert_array_equal(finder.seen(), before)


def test_the_threshold_filters_what_is_known_and_asks_for_what_is_not(finder: Visitor) -> None:
    instances = instances_of(finder.find("A red coffee cup"))
    full = finder.seen()
    finder.set_threshold(THRESHOLD + 0.05)
    best = shown_scores(instances, THRESHOLD + 0.05)
    assert 0 < len(best) < len(instances)
    assert listed_scores(finder) == best
    assert f"{len(best)} instance" in finder.text("#status")
    assert (finder.seen() != full).any()
    finder.set_threshold(THRESHOLD)
    assert listed_scores(finder) == shown_scores(instances)
    np.testing.assert_array_equal(finder.seen(), full)
    assert len(finder.sent(CONCEPTS)) == 1
    more = instances_of(finder.answer(lambda: finder.set_threshold(0.4), CONCEPTS))
    assert len(more) > len(instances)
    assert listed_scores(finder) == shown_scores(more)
    assert fields(finder.requests[-1])["threshold"] == "0.4"
    assert 'name="image"' not in (finder.requests[-1].post_data_buffer or b"").decode("latin1")


def test_a_drawn_box_becomes_an_example(finder: Visitor) -> None:
    button = finder.page.get_by_role("button", name="Find more like this box")
    assert button.get_attribute("aria-disabled") == "true"
    finder.answer(lambda: finder.drag(*CUP_BOX))
    answer = finder.answer(button.click, CONCEPTS)
    sent = fields(finder.requests[-1])
    assert "texts" not in sent
    assert sent["box_labels"] == "[1]"
    assert np.abs(np.array(json.loads(sent["boxes"])) - (150, 80, 451, 321)).max() <= 1
    assert [result["text"] for result in answer["results"]] == [None]
    assert listed_scores(finder) == shown_scores(instances_of(answer))
    assert "what the examples show" in finder.text("#status")

    # A box that is drawn now is one more example; with Alt, of what is not meant.
    finder.page.keyboard.down("Alt")
    finder.answer(lambda: finder.drag((30, 40), (100, 120)), CONCEPTS)
    finder.page.keyboard.up("Alt")
    assert fields(finder.requests[-1])["box_labels"] == "[1,0]"
    assert len(json.loads(fields(finder.requests[-1])["boxes"])) == 2
    assert len(finder.sent("/v1/predict")) == 1

    finder.answer(finder.page.get_by_role("button", name="Box 2: not this").click, CONCEPTS)
    assert fields(finder.requests[-1])["box_labels"] == "[1,1]"
    finder.page.get_by_label("Find every", exact=True).fill("spoon")
    finder.answer(finder.page.get_by_role("button", name="Remove box 1").click, CONCEPTS)
    assert fields(finder.requests[-1])["texts"] == '["spoon"]'
    assert fields(finder.requests[-1])["box_labels"] == "[1]"
    assert np.abs(np.array(json.loads(fields(finder.requests[-1])["boxes"])) - (30, 40, 101, 121)).max() <= 1
    finder.answer(lambda: finder.page.click("#undo"), CONCEPTS)
    assert fields(finder.requests[-1])["box_labels"] == "[1,1]"
    assert "texts" not in fields(finder.requests[-1])
    assert finder.page.locator("#examples li").count() == 2


def test_an_instance_is_refined_by_clicks_and_the_others_come_back(finder: Visitor) -> None:
    before = finder.seen()
    instances = instances_of(finder.find("spoon"))
    found = finder.seen()
    place, index = place_in_one(instances)
    finder.answer(lambda: finder.click(*place))
    assert json.loads(fields(finder.requests[-1])["box"]) == pytest.approx(instances[index]["box"])
    assert "points" not in fields(finder.requests[-1])
    assert f"Refining instance {index + 1}" in finder.text("#refined")
    finder.page.mouse.move(1, 1)
    finder.answer(lambda: finder.click(200, 200, button="right"))
    assert fields(finder.requests[-1])["labels"] == "[0]"
    assert fields(finder.requests[-1])["box"]

    asked = len(finder.sent(CONCEPTS))
    finder.page.get_by_role("button", name=re.compile("^Back to the")).click()
    finder.settle()
    assert listed_scores(finder) == shown_scores(instances)
    finder.page.mouse.move(1, 1)
    np.testing.assert_array_equal(finder.seen(), found)
    finder.answer(lambda: finder.click(*place))
    finder.page.keyboard.press("Escape")
    finder.settle()
    finder.page.mouse.move(1, 1)
    np.testing.assert_array_equal(finder.seen(), found)
    assert len(finder.sent(CONCEPTS)) == asked
    finder.page.keyboard.press("Escape")
    finder.settle()
    np.testing.assert_array_equal(finder.seen(), before)
    assert finder.page.input_value("#texts") == ""
    finder.answer(lambda: finder.page.click("#undo"), CONCEPTS)
    assert finder.page.input_value("#texts") == "spoon"


def test_pointing_highlights_in_the_list_and_in_the_picture(finder: Visitor) -> None:
    instances = instances_of(finder.find("spoon"))
    plain = finder.seen()
    highlighted = finder.page.locator("#instances .highlighted .number")
    finder.page.locator("#instances button").nth(1).hover()
    assert highlighted.all_inner_texts() == ["2"]
    assert (finder.seen() != plain).any()
    place, index = place_in_one(instances)
    finder.page.mouse.move(*finder.on_screen(*place))
    assert highlighted.all_inner_texts() == [str(index + 1)]
    finder.page.mouse.move(1, 1)
    assert highlighted.count() == 0
    np.testing.assert_array_equal(finder.seen(), plain)


def test_keys_alone(finder: Visitor) -> None:
    keyboard = finder.page.keyboard
    finder.page.focus("#canvas")
    keyboard.press("/")
    keyboard.type("dut?/spoon")  # letters that are shortcuts elsewhere
    assert finder.page.input_value("#texts") == "dut?/spoon"
    keyboard.press("Escape")
    assert finder.page.input_value("#texts") == ""
    keyboard.type("spoon")
    instances = instances_of(finder.answer(lambda: keyboard.press("Enter"), CONCEPTS))
    finder.page.focus("#threshold")
    keyboard.press("Tab")
    keyboard.press("ArrowDown")
    assert finder.page.locator("#instances .highlighted .number").inner_text() == "2"
    finder.answer(lambda: keyboard.press("Enter"))
    assert json.loads(fields(finder.requests[-1])["box"]) == pytest.approx(instances[1]["box"])
    assert finder.page.evaluate("document.activeElement.id") == "back"
    keyboard.press("Enter")
    finder.settle()
    assert finder.page.evaluate("document.activeElement.dataset.number") == "2"


def test_every_control_has_a_name(finder: Visitor) -> None:
    finder.answer(lambda: finder.drag(*CUP_BOX))
    finder.answer(finder.page.get_by_role("button", name="Find more like this box").click, CONCEPTS)
    names = finder.page.eval_on_selector_all(
        "#find :is(input, button), #examples button, #instances-section :is(input, button)",
        "all => all.map((one) => (one.ariaLabel || one.labels?.[0]?.innerText || one.innerText).trim())",
    )
    assert {"Find every", "Find", "Box 1: like this", "Remove box 1", "Download all masks"} <= {
        name.removeprefix("+ ") for name in names
    }
    assert all(names)
    assert any(name.startswith("Instance 1, like the examples, score") for name in names)


def test_all_masks_are_downloaded_as_they_came(finder: Visitor) -> None:
    instances = instances_of(finder.find("spoon, A red coffee cup"))
    with finder.page.expect_download() as caught:
        finder.page.get_by_role("button", name="Download all masks").click()
    assert caught.value.suggested_filename == "coffee_masks.zip"
    with zipfile.ZipFile(caught.value.path()) as packed:
        assert packed.testzip() is None
        described = json.loads(packed.read("instances.json"))
        assert [one["score"] for one in described] == [one["score"] for one in instances]
        assert [one["box"] for one in described] == [one["box"] for one in instances]
        masks = [packed.read(one["file"]) for one in described]
        assert len(packed.namelist()) == 1 + len(instances)
    assert masks == [base64.b64decode(one["mask"]["data"]) for one in instances]


def test_the_latest_request_wins(finder: Visitor) -> None:
    held: list[Route] = []
    finder.page.route(f"**{CONCEPTS}", lambda route: held.append(route), times=1)
    field = finder.page.get_by_label("Find every", exact=True)
    field.fill("A red coffee cup")
    field.press("Enter")
    expect(finder.page.locator("#status")).to_contain_text("Looking for instances")
    with finder.page.expect_event("requestfailed") as failed:
        instances = instances_of(finder.find("spoon"))
    assert failed.value.failure == "net::ERR_ABORTED"
    assert listed_scores(finder) == shown_scores(instances)
    assert "“spoon”" in finder.text("#status")


def test_an_image_that_the_server_dropped_is_sent_again(finder: Visitor) -> None:
    def forget(route: Route) -> None:
        body = route.request.post_data_buffer
        assert body is not None
        route.continue_(post_data=body.replace(fields(route.request)["image_id"].encode(), b"0" * 64))

    finder.page.route(f"**{CONCEPTS}", forget, times=1)
    field = finder.page.get_by_label("Find every", exact=True)
    field.fill("spoon")
    with finder.page.expect_response(lambda response: response.url.endswith(CONCEPTS) and response.status == 200):
        field.press("Enter")
    finder.settle()
    assert "“spoon”" in finder.text("#status")
    unknown, again = finder.sent(CONCEPTS)
    assert unknown.response().status == 404
    assert again.response().status == 200
    assert "image_id" not in fields(again)
    assert "404" in finder.complaints.pop()  # the browser logs it


def test_the_servers_error_message_is_shown(finder: Visitor) -> None:
    instances = instances_of(finder.find("spoon"))
    with finder.page.expect_response(f"{finder.gateway}{CONCEPTS}") as caught:
        finder.page.fill("#texts", ", ".join(f"thing {index}" for index in range(40)))
        finder.page.keyboard.press("Enter")
    finder.settle()
    assert caught.value.status == 400
    assert finder.text("#error-text") == caught.value.json()["detail"]
    assert listed_scores(finder) == []
    assert "400" in finder.complaints.pop()
    assert listed_scores(finder) == []
    finder.find("spoon")
    assert listed_scores(finder) == shown_scores(instances)
    assert not finder.page.is_visible("#error")


def test_a_long_text_is_said_to_be_cut(finder: Visitor) -> None:
    finder.find("spoon")
    assert not finder.page.is_visible("#truncated")
    assert finder.find("word " * 60)["results"][0]["truncated"] is True
    expect(finder.page.get_by_text("reads only the first words")).to_be_visible()


def test_a_click_beside_all_instances_is_a_point(finder: Visitor) -> None:
    instances = instances_of(finder.find("spoon"))
    outside = ~np.array([mask_of(one) for one in instances]).any(axis=0)
    x, y = deepest(outside)
    finder.answer(lambda: finder.click(x, y))
    assert json.loads(fields(finder.requests[-1])["points"]) == [[x, y]]
    finder.page.get_by_role("button", name=re.compile("^Back to the")).click()
    finder.settle()
    assert listed_scores(finder) == shown_scores(instances)


def test_without_concepts_the_page_says_so_and_clicks_work(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("exported without concept prompts")).to_be_visible()
    for name in ("Find", "Find more like this box"):
        assert visitor.page.get_by_role("button", name=name, exact=True).is_disabled()
    assert visitor.page.get_by_label("Find every", exact=True).is_disabled()
    visitor.answer(lambda: visitor.click(290, 150))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit: Callable[..., Visitor], concept_gateway: str, scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    finder = visit(concept_gateway, **phone, color_scheme=scheme)
    lower_threshold(finder)
    instances = instances_of(finder.find("spoon, " + "a very long text " * 4))
    assert finder.page.evaluate("document.documentElement.scrollWidth") == 390
    small = finder.page.eval_on_selector_all(
        "button, .modes label, .field, .slider input",
        "all => all.filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 44)"
        ".map((one) => one.outerHTML)",
    )
    assert small == []
    finder.page.get_by_label("Not this").tap()
    place, index = place_in_one(instances)
    finder.answer(lambda: finder.page.touchscreen.tap(*finder.on_screen(*place)))
    assert json.loads(fields(finder.requests[-1])["box"]) == pytest.approx(instances[index]["box"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(
    visit: Callable[..., Visitor], concept_gateway: str, gateway: str, scheme: str
) -> None:
    unserved = visit(gateway, color_scheme=scheme)
    assert unserved.contrast("#no-concepts") >= 4.5
    finder = visit(concept_gateway, color_scheme=scheme)
    finder.drag(*CUP_BOX)
    finder.answer(lambda: finder.page.click("#find-like"), CONCEPTS)
    selectors = ("#texts", ".field label", "#find-like", "#instance-count", ".number", ".score", "#examples button")
    assert [selector for selector in selectors if finder.contrast(selector) < 4.5] == []
    finder.set_threshold(0.95)
    assert finder.contrast("#no-instances") >= 4.5
