"""The description at /docs: it loads nothing from other servers, and its example works."""

from __future__ import annotations

import re

import golden
import pytest
from playwright.sync_api import Browser, expect


@pytest.mark.parametrize("path", ["/predict/mask", "/v1/predict"])
def test_the_example_works(browser: Browser, gateway: str, path: str) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{gateway}/docs")
    operation = page.locator(".opblock-post").filter(has=page.locator(f'[data-path="{path}"]'))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator('input[type="file"]').set_input_files(golden.FOLDER / "coffee.png")
    with page.expect_response(f"{gateway}{path}") as caught:
        operation.get_by_role("button", name="Execute").click()
    assert caught.value.status == 200, caught.value.text()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_have_text(re.compile("200"))
    page.close()
    assert [url for url in asked if not url.startswith((f"{gateway}/", "blob:", "data:"))] == []
