"""Drives the gateway's page in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import requests
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Request, Response

API_KEY = "opensesame"
NO_BROWSER = "no Chromium on the PATH; Debian: apt-get install --no-install-recommends chromium"
# Pixels on both sides of the mask's edge that are not compared: the overlay draws its outline there.
_RIM = 4


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Visitor:
    """One tab, with its requests, errors and warnings."""

    def __init__(self, page: Page, gateway: str) -> None:
        """
        Args:
            page: a tab of a fresh context, before it has opened the gateway's page.
            gateway: URL of the gateway, without a trailing slash.
        """
        self.page = page
        self.gateway = gateway
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)

    def open(self) -> None:
        """Loads the page and waits until its photo is encoded."""
        self.page.goto(f"{self.gateway}/")
        self.settle()

    def settle(self) -> None:
        """Waits until the page is idle."""
        self.page.wait_for_selector("#workbench[aria-busy=false]")

    def click(self, x: float, y: float, **options: Any) -> None:
        """Clicks on a pixel of the picture and waits for the answer."""
        self.page.mouse.move(*self.on_screen(x, y))
        held = options.pop("held", [])
        for key in held:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.on_screen(x, y), **options)
        for key in held:
            self.page.keyboard.up(key)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags from one pixel of the picture to another and waits for the answer."""
        self.page.mouse.move(*self.on_screen(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.on_screen(*end), steps=5)
        self.page.mouse.up()
        self.settle()

    def on_screen(self, x: float, y: float) -> tuple[float, float]:
        """Window coordinates of the centre of a pixel of the picture."""
        canvas = self.page.locator("#canvas").bounding_box()
        assert canvas is not None
        width, height = self.picture_size()
        return canvas["x"] + (x + 0.5) / width * canvas["width"], canvas["y"] + (y + 0.5) / height * canvas["height"]

    def picture_size(self) -> tuple[int, int]:
        """(width, height) in pixels, from the canvas's accessible label."""
        label = self.page.get_attribute("#canvas", "aria-label") or ""
        match = re.search(r"(\d+) \S (\d+) pixels", label)
        assert match, label
        return int(match[1]), int(match[2])

    def find(self, text: str) -> dict[str, Any]:
        """Types into the field "Find every", presses Enter, and returns the gateway's answer."""
        field = self.page.get_by_label("Find every", exact=True)
        field.fill(text)
        return self.answer(lambda: field.press("Enter"), "/v1/concepts")

    def set_threshold(self, value: float) -> None:
        """Moves the slider and lets go of it."""
        self.page.get_by_label("Score above").fill(str(value))
        self.settle()

    def seen(self) -> np.ndarray:
        """The canvas's content, uint8 [H, W, 3], at the picture's size."""
        width, height = self.picture_size()
        url = self.page.evaluate("document.getElementById('canvas').toDataURL()")
        image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX))

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return self.page.inner_text(selector)

    def contrast(self, selector: str) -> float:
        """WCAG's contrast ratio of an element's text and its ground, from 1 to 21."""
        return _contrast(
            *self.page.eval_on_selector(
                selector,
                """(element) => {
                    const text = getComputedStyle(element).color;
                    let ground = element;
                    const colour = () => getComputedStyle(ground).backgroundColor;
                    while (colour() === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
                    return [text, colour()];
                }""",
            )
        )

    def sent(self, path: str) -> list[Request]:
        """The requests to one path of the gateway so far."""
        return [request for request in self.requests if request.url == self.gateway + path]

    def answer(self, do: Callable[[], None], path: str = "/v1/predict") -> dict[str, Any]:
        """Calls `do`, which must send a request to a path of the gateway, and returns the answer."""
        with self.page.expect_response(f"{self.gateway}{path}") as caught:
            do()
        self.settle()
        response: Response = caught.value
        assert response.status == 200, response.text()
        return json.loads(response.body())

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def fields(request: Request) -> dict[str, str]:
    """The text fields of a multipart request."""
    parts = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', request.post_data_buffer or b"", re.DOTALL)
    return {name.decode(): value.decode() for name, value in parts}


def mask_of(answer: dict[str, Any], index: int = 0) -> np.ndarray:
    """The mask of one candidate in an answer of `/v1/predict`, bool [H, W]."""
    png = base64.b64decode(answer["candidates"][index]["mask"]["data"])
    return np.asarray(Image.open(io.BytesIO(png))) > 0


def best_mask(gateway: str, photo: bytes, **data: str) -> bytes:
    """The PNG that `/predict/mask` returns for a photo."""
    answer = requests.post(f"{gateway}/predict/mask", files={"image": photo}, data=data, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content


def assert_overlay(before: np.ndarray, after: np.ndarray, mask: np.ndarray, marks: list[tuple[int, int]]) -> None:
    """Asserts that the canvas changed inside the mask and nowhere else.

    Args:
        before: the canvas without a mask, uint8 [H, W, 3].
        after: the canvas with the mask, of the same shape.
        mask: bool [H, W].
        marks: points (x, y) whose surroundings are not compared.
    """
    changed = np.abs(after.astype(int) - before).max(axis=2) > 8
    kernel = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
    compared = np.ones(mask.shape, np.uint8)
    for mark in marks:
        cv2.circle(compared, mark, 14, 0, -1)
    inside = (cv2.erode(mask.astype(np.uint8), kernel) & compared) > 0
    outside = ((1 - cv2.dilate(mask.astype(np.uint8), kernel)) & compared) > 0
    assert inside.any()
    assert outside.any()
    assert changed[inside].mean() > 0.99
    assert changed[outside].mean() < 0.001


def _contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours `rgb(r, g, b)`."""
    lights = []
    for colour in (one, other):
        values = np.array([int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ (0.2126, 0.7152, 0.0722)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)
