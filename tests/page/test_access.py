"""The page by keyboard, by touch, on a phone, in the dark."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from browsing import Visitor, assert_overlay, fields, mask_of

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def test_keys_alone(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    before = visitor.seen()
    for _ in range(12):
        keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement.id") == "canvas":
            break
    assert visitor.page.evaluate("document.activeElement.id") == "canvas"
    for key in ("Shift+ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft"):  # from the middle, by 48 and by 6 pixels
        keyboard.press(key)
    crosshair = (294, 140)
    assert (visitor.seen()[:, crosshair[0]] != before[:, crosshair[0]]).any(axis=1).mean() > 0.9
    mask = mask_of(visitor.answer(lambda: keyboard.press("Enter")))
    assert json.loads(fields(visitor.requests[-1])["points"]) == [[*crosshair]]
    first = visitor.seen()

    keyboard.press("Shift+ArrowUp")
    visitor.answer(lambda: keyboard.press("b"))
    assert json.loads(fields(visitor.requests[-1])["points"]) == [[294, 140], [294, 92]]
    assert fields(visitor.requests[-1])["labels"] == "[1,0]"
    visitor.answer(lambda: keyboard.press("Backspace"))
    assert fields(visitor.requests[-1])["labels"] == "[1,0,0]"
    visitor.answer(lambda: keyboard.press("Control+z"))
    visitor.answer(lambda: keyboard.press("u"))
    keyboard.press("Shift+ArrowDown")
    np.testing.assert_array_equal(visitor.seen(), first)
    keyboard.press("2")
    assert "Mask 2 of 3" in visitor.text("#status")
    with visitor.page.expect_download():
        keyboard.press("d")
    keyboard.press("Tab")  # leaving the canvas hides its crosshair
    keyboard.press("1")
    assert_overlay(before, visitor.seen(), mask, [crosshair])
    keyboard.press("Escape")
    visitor.settle()
    np.testing.assert_array_equal(visitor.seen(), before)


def test_a_box_by_keys(visitor: Visitor) -> None:
    visitor.page.focus("#canvas")
    keyboard = visitor.page.keyboard
    keyboard.press("x")
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown"):
        keyboard.press(key)
    assert visitor.sent("/v1/predict") == []
    visitor.answer(lambda: keyboard.press("x"))
    assert json.loads(fields(visitor.requests[-1])["box"]) == [300, 200, 349, 255]
    keyboard.press("x")
    keyboard.press("Escape")  # the corner alone
    visitor.settle()
    assert len(visitor.sent("/v1/predict")) == 1
    assert visitor.page.get_attribute("#clear", "aria-disabled") == "false"
    keyboard.press("Escape")
    assert visitor.page.get_attribute("#clear", "aria-disabled") == "true"


def test_the_tools_by_keys(visitor: Visitor) -> None:
    visitor.page.focus("#canvas")
    visitor.answer(lambda: visitor.page.keyboard.press("Enter"))
    visitor.page.keyboard.press("?")
    assert not visitor.page.is_visible("#keys")
    visitor.page.focus("#multimask")
    assert len(visitor.answer(lambda: visitor.page.keyboard.press("Space"))["candidates"]) == 1
    visitor.page.focus("#undo")
    visitor.page.keyboard.press("Enter")
    visitor.settle()
    assert visitor.page.evaluate("document.activeElement.id") == "undo"  # though there is nothing more to undo
    assert visitor.page.locator("#candidates button").count() == 0


def test_every_focusable_element_has_a_name_and_a_focus_outline(visitor: Visitor) -> None:
    visitor.click(290, 150)
    visitor.page.focus("#open")
    names = []
    for _ in range(20):
        name, outline = visitor.page.evaluate(
            """() => {
                const active = document.activeElement;
                const shown = active.name === "mode" ? active.nextElementSibling : active;
                const named = active.labels?.[0]?.innerText || active.ariaLabel || active.innerText;
                return [named.trim(), getComputedStyle(shown).outlineStyle];
            }"""
        )
        assert name
        if names:
            assert outline == "solid", name
        names.append(name)
        visitor.page.keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement === document.body"):
            break
    assert {"Open a picture", "Undo", "Clear", "Three candidates", "Download mask", "Keys"} <= set(names)
    assert any(name.startswith("Candidate 3, score") for name in names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit: Callable[..., Visitor], scheme: str) -> None:
    visitor = visit(**PHONE, color_scheme=scheme)
    page = visitor.page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(value) for value in ground.removeprefix("rgb(").removesuffix(")").split(","))
    assert (brightness > 384) == (scheme == "light")
    visitor.answer(lambda: page.touchscreen.tap(*visitor.on_screen(290, 150)))
    page.get_by_label("Background").tap()
    visitor.answer(lambda: page.touchscreen.tap(*visitor.on_screen(340, 60)))
    assert fields(visitor.requests[-1])["labels"] == "[1,0]"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = page.eval_on_selector_all(
        "button, .modes label, .switch",
        "all => all.filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 44)"
        ".map((one) => one.innerText)",
    )
    assert small == []


def test_texts_have_enough_contrast(visit: Callable[..., Visitor]) -> None:
    for scheme in ("light", "dark"):
        visitor = visit(color_scheme=scheme)
        visitor.click(290, 150)
        for selector in ("#status", "#hint", "#undo", "#download", "#cached", "#stages dt", "#keys dd", "footer p"):
            assert visitor.contrast(selector) >= 4.5, (scheme, selector)
