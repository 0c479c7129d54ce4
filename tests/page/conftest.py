"""The page behind a real gateway and a real Triton with the demonstration checkpoint, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import API_KEY, NO_BROWSER, Visitor, find_browser
from playwright.sync_api import Browser, sync_playwright
from processes import run_gateway


@pytest.fixture(scope="session")
def gateway(serve, exported_demo: Path) -> Iterator[str]:
    """The address of a gateway in front of the demonstration checkpoint."""
    with run_gateway(serve(exported_demo).grpc_url) as url:
        yield url


@pytest.fixture(scope="session")
def concept_gateway(serve, exported_concepts: Path) -> Iterator[str]:
    """The address of a gateway in front of a checkpoint with concept prompts."""
    with run_gateway(serve(exported_concepts).grpc_url) as url:
        yield url


@pytest.fixture(scope="session")
def locked_gateway(serve, exported_demo: Path) -> Iterator[str]:
    """The same with an API key."""
    with run_gateway(serve(exported_demo).grpc_url, SAM3_GATEWAY_API_KEY=API_KEY) as url:
        yield url


@pytest.fixture(scope="module")
def browser(steady_network: None) -> Iterator[Browser]:
    """A Chromium. It is closed after each module, because Playwright's event loop would disturb other tests' loops."""
    path = find_browser()
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, gateway: str) -> Iterator[Callable[..., Visitor]]:
    """Opens the page in a window. Afterwards, checks that there were no errors and no requests to other servers."""
    visitors: list[Visitor] = []

    def open_page(url: str = gateway, **context: Any) -> Visitor:
        settings = {"viewport": {"width": 1280, "height": 800}, **context}
        visitor = Visitor(browser.new_context(**settings).new_page(), url)
        visitors.append(visitor)
        visitor.open()
        return visitor

    yield open_page
    for visitor in visitors:
        visitor.page.context.close()
        assert visitor.complaints == []
        elsewhere = [one.url for one in visitor.requests if not one.url.startswith((f"{visitor.gateway}/", "blob:"))]
        assert elsewhere == []


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """The page at desktop size, with its photo encoded."""
    return visit()
