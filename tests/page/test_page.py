"""The page with a mouse."""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files

import numpy as np
import pytest
from browsing import Visitor, assert_overlay, best_mask, fields, mask_of
from PIL import Image
from playwright.sync_api import Route, expect

PHOTO = (files("sam3_gateway") / "page" / "photo.jpg").read_bytes()
# x, y in pixels of the photo: inside the cup, and on its rim, which a background click removes.
CUP, RIM = (290, 150), (340, 60)
TABLE = (500, 60)


def test_the_photo_is_shown_and_encoded_before_the_first_click(visitor: Visitor) -> None:
    photo = np.asarray(Image.open(io.BytesIO(PHOTO)))
    assert visitor.picture_size() == (600, 400)
    assert np.abs(visitor.seen().astype(int) - photo).mean() < 3
    assert "Click on something" in visitor.text("#status")
    assert len(visitor.sent("/v1/images")) == 1
    assert visitor.sent("/v1/predict") == []


def test_a_click_lays_the_mask_over_the_picture(visitor: Visitor) -> None:
    before = visitor.seen()
    answer = visitor.answer(lambda: visitor.click(*CUP))
    mask = mask_of(answer)
    assert mask[CUP[1], CUP[0]]
    assert_overlay(before, visitor.seen(), mask, [CUP])
    (request,) = visitor.sent("/v1/predict")
    assert fields(request) == {
        "image_id": answer["image_id"],
        "multimask": "true",
        "points": json.dumps([CUP], separators=(",", ":")),
        "labels": "[1]",
    }


def test_it_works_under_the_strictest_content_security_policy(visitor: Visitor) -> None:
    def forbid(route: Route) -> None:
        answer = route.fetch()
        policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": policy})

    visitor.page.route(f"{visitor.gateway}/", forbid)
    visitor.open()
    visitor.answer(lambda: visitor.click(*CUP))
    assert _downloaded(visitor)


def test_times_and_cache_are_shown(visitor: Visitor) -> None:
    answer = visitor.answer(lambda: visitor.click(*CUP))
    assert answer["cache_hit"] is True
    assert visitor.text("#cached") == "image cached"
    round_trip = float(visitor.text("#round-trip").removesuffix(" ms"))
    assert round_trip >= answer["milliseconds"]["total"] - 1
    assert len(visitor.page.query_selector_all("#stages > div")) == len(answer["milliseconds"])
    assert f"score {answer['candidates'][0]['score']:.2f}" in visitor.text("#status")


@pytest.mark.parametrize("way", ["right button", "alt", "mode"])
def test_a_background_click_removes_its_place_from_the_mask(visitor: Visitor, way: str) -> None:
    before = visitor.seen()
    assert mask_of(visitor.answer(lambda: visitor.click(*CUP)))[RIM[1], RIM[0]]

    def click_on_the_rim() -> None:
        if way == "mode":
            visitor.page.get_by_label("Background").check()
        options = {"right button": {"button": "right"}, "alt": {"held": ["Alt"]}, "mode": {}}[way]
        visitor.click(*RIM, **options)

    mask = mask_of(visitor.answer(click_on_the_rim))
    assert not mask[RIM[1], RIM[0]]
    assert fields(visitor.requests[-1])["labels"] == "[1,0]"
    assert_overlay(before, visitor.seen(), mask, [CUP, RIM])


def test_a_drag_is_a_box_and_replaces_the_earlier_one(visitor: Visitor) -> None:
    visitor.drag((80, 70), (480, 390))
    mask = mask_of(visitor.answer(lambda: visitor.drag((410, 330), (320, 230))))
    sent = fields(visitor.requests[-1])
    assert "points" not in sent
    assert np.abs(np.array(json.loads(sent["box"])) - (320, 230, 411, 331)).max() <= 1
    shown = visitor.seen()
    visitor.page.click("#clear")
    visitor.settle()
    before = visitor.seen()
    tinted = np.abs(shown.astype(int) - before).max(axis=2) > 8
    assert tinted[mask].mean() > 0.9
    assert not tinted[:220].any()


def test_candidates_are_switched_by_button_and_by_key(visitor: Visitor) -> None:
    before = visitor.seen()
    answer = visitor.answer(lambda: visitor.click(*CUP))
    buttons = visitor.page.locator("#candidates button")
    assert [float(text) for text in buttons.all_inner_texts()] == [
        round(candidate["score"], 2) for candidate in answer["candidates"]
    ]
    for index, choose in enumerate((lambda: visitor.page.keyboard.press("1"), buttons.nth(1).click)):
        choose()
        assert buttons.nth(index).get_attribute("aria-pressed") == "true"
        assert visitor.page.locator("#candidates [aria-pressed=true]").count() == 1
        assert f"Mask {index + 1} of 3" in visitor.text("#status")
        assert_overlay(before, visitor.seen(), mask_of(answer, index), [CUP])
    visitor.page.keyboard.press("3")
    assert_overlay(before, visitor.seen(), mask_of(answer, 2), [CUP])
    assert len(visitor.sent("/v1/predict")) == 1


def test_one_mask_instead_of_three(visitor: Visitor) -> None:
    visitor.click(*CUP)
    answer = visitor.answer(lambda: visitor.page.get_by_text("Three candidates").click())
    assert len(answer["candidates"]) == 1
    assert visitor.page.locator("#candidates button").count() == 1
    assert fields(visitor.requests[-1])["multimask"] == "false"


def test_undo_takes_one_step_back(visitor: Visitor) -> None:
    before = visitor.seen()
    visitor.click(*CUP)
    first = visitor.seen()
    visitor.click(*TABLE)
    assert (visitor.seen() != first).any()
    visitor.answer(lambda: visitor.page.click("#undo"))
    np.testing.assert_array_equal(visitor.seen(), first)
    visitor.page.click("#undo")
    visitor.settle()
    np.testing.assert_array_equal(visitor.seen(), before)
    assert visitor.page.get_attribute("#undo", "aria-disabled") == "true"


def test_clear_takes_everything_away_and_can_be_undone(visitor: Visitor) -> None:
    before = visitor.seen()
    visitor.drag((170, 15), (410, 290))
    visitor.click(*CUP)
    full = visitor.seen()
    visitor.page.click("#clear")
    visitor.settle()
    np.testing.assert_array_equal(visitor.seen(), before)
    assert visitor.page.locator("#candidates button").count() == 0
    visitor.answer(lambda: visitor.page.click("#undo"))
    np.testing.assert_array_equal(visitor.seen(), full)


def test_the_download_is_the_mask_of_the_old_endpoint_byte_for_byte(visitor: Visitor, gateway: str) -> None:
    visitor.click(*CUP)
    answer = visitor.answer(lambda: visitor.click(*RIM, button="right"))
    points, labels = json.dumps([CUP, RIM]), "[1, 0]"
    assert _downloaded(visitor) == best_mask(gateway, PHOTO, points=points, labels=labels, multimask="true")
    visitor.page.keyboard.press("2")
    visitor.page.locator("#candidates button").nth(1).click()
    assert _downloaded(visitor) == base64.b64decode(answer["candidates"][1]["mask"]["data"])


def _downloaded(visitor: Visitor) -> bytes:
    with visitor.page.expect_download() as caught:
        visitor.page.click("#download")
    assert caught.value.suggested_filename == "coffee_mask.png"
    return caught.value.path().read_bytes()


def test_a_slow_click_shows_a_progress_message(visitor: Visitor) -> None:
    held: list[Route] = []
    visitor.page.route("**/v1/predict", lambda route: held.append(route), times=1)
    visitor.page.mouse.click(*visitor.on_screen(*CUP))
    expect(visitor.page.locator("#status")).to_contain_text("Looking for the mask")
    held.pop().continue_()
    visitor.settle()
    assert visitor.text("#status").startswith("Mask 1 of 3")


def test_the_latest_click_wins(visitor: Visitor) -> None:
    before = visitor.seen()
    held: list[Route] = []
    # Hold the first click's request.
    visitor.page.route("**/v1/predict", lambda route: held.append(route), times=1)
    visitor.page.mouse.click(*visitor.on_screen(*TABLE))
    expect(visitor.page.locator("#workbench")).to_have_attribute("aria-busy", "true")
    with visitor.page.expect_event("requestfailed") as failed:
        answer = visitor.answer(lambda: visitor.click(*RIM, button="right"))
    assert failed.value.failure == "net::ERR_ABORTED"
    assert len(held) == 1
    assert_overlay(before, visitor.seen(), mask_of(answer), [TABLE, RIM])


def test_an_image_that_the_server_dropped_is_sent_again(visitor: Visitor) -> None:
    def forget(route: Route) -> None:
        body = route.request.post_data_buffer
        image_id = fields(route.request)["image_id"].encode()
        route.continue_(post_data=body.replace(image_id, b"0" * 64))

    visitor.page.route("**/v1/predict", forget, times=1)
    visitor.click(*CUP)
    unknown, again = visitor.sent("/v1/predict")
    assert unknown.response().status == 404
    assert again.response().status == 200
    assert "image_id" not in fields(again)
    assert visitor.page.locator("#candidates button").count() == 3
    assert "404" in visitor.complaints.pop()  # the browser logs it
