"""One pair of real nodes and one browser for the tests of this folder that only look; others make their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.web.pages import PagePair, Window, chromium, page_pair


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Of one module: while it is there, the main thread has a running loop, and other tests want one of their own."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PagePair]:
    with page_pair(tmp_path_factory.mktemp("pair")) as made:
        yield made


@pytest.fixture(scope="module")
def browser(playwright: Playwright, pair: PagePair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(playwright, pair.client, tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    opened = Window(browser)
    yield opened
    opened.close()
    assert not opened.problems, "the browser complained"
