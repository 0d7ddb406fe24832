"""Every page that acts, in light, dark and on a phone: axe-core finds nothing serious, and nothing is wider than the
screen. The pictures are kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.backup_pair import TABLES, expect_section, expect_service, prepare, update
from tests.web.pages import PagePair, Window, page_pair
from tests.web.test_overview import faults

#: Path and what is awaited there, after an update was made and another one is due.
PAGES = {
    "backup": "/backup",
    "difference": "/backup/difference?peer=fw2&sections=rules",
    "update": "/backup/update?peer=fw2&restart=all",
    "restart-all": "/backup/restart-all?peer=fw2",
    "history": "/backup/revisions?peer=fw2",
    "revision": "/backup/revisions/2?peer=fw2",
    "return": "/backup/revisions/1/restore?peer=fw2",
    "job": "/jobs/1",
    "vips": "/vips",
    "maintenance": "/vips/maintenance-enter",
    "disable": "/vips/carp-disable",
    "reset": "/vips/demotion-reset",
}
LOOKS = {"light": {}, "dark": {"dark": True}, "phone": {"phone": True}, "phone-dark": {"phone": True, "dark": True}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PagePair]:
    with page_pair(tmp_path_factory.mktemp("pair"), *TABLES, wan_too=False) as made:
        prepare(made)
        yield made


@pytest.fixture(scope="module")
def updated(pair: PagePair, browser: Browser) -> PagePair:
    """One revision was pushed, and fw1 has something newer; one service fails to start."""
    window = Window(browser)
    page = window.sign_in(pair.fw1, path="/backup")
    expect_section(page, "rules", "not in sync")
    update(page, "Update and restart all")
    pair.fw1.write("rules.conf", "accept from lan\naccept from dmz\ndrop all\n")
    (pair.fw2.files / "dhcp.runs").unlink()
    page.goto(pair.fw1.url + "/backup")
    expect_service(page, "dhcp", "stopped")
    window.close()
    return pair


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("look", LOOKS)
def test_every_page(updated: PagePair, browser: Browser, look: str) -> None:
    window = Window(browser, **LOOKS[look])
    page = window.sign_in(updated.fw1, path="/backup")
    found = {}
    for name, path in PAGES.items():
        page.goto(updated.fw1.url + path)
        if name == "backup":
            expect_section(page, "rules", "not in sync")
        expect(page.locator("main")).not_to_be_empty()
        found[name] = (faults(page), overflow(page))
        window.shot(f"{name}-{look}")
    window.close()
    assert found == {name: ([], 0) for name in PAGES}
    assert not window.problems
