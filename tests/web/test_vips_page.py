"""The page Virtual IPs in Chromium, on a real pair: each deed with what it will do, then done."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.web.pages import PagePair, Window, live


def expect_state(page: Page, node: str, vip: str, state: str) -> None:
    expect(page.locator(f'#vips td[data-node="{node}"][data-vip="{vip}"] .chip')).to_have_text(state)


def do(page: Page, window: Window, link: str, *said: str, shot: str = "") -> None:
    """Ask for it, read what it will do, and do it."""
    page.locator(f"#{link}").click()
    for text in said:
        expect(page.locator("form.ask")).to_contain_text(text)
    if shot:
        window.shot(shot)
    page.locator("form.ask button").click()
    page.wait_for_url("**/vips")


def test_maintenance_moves_the_addresses_and_says_so_before(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/vips")
    expect_state(page, "fw1", "lan", "MASTER")
    expect_state(page, "fw2", "wan", "BACKUP")
    window.shot("vips")
    do(
        page,
        window,
        "maintenance",
        "lan moves to fw2",
        "wan moves to fw2",
        "also after a reboot",
        shot="vips-maintenance",
    )
    expect_state(page, "fw2", "lan", "MASTER")
    expect_state(page, "fw1", "lan", "BACKUP")
    expect(page.locator("#here")).to_contain_text("in maintenance")
    assert (pair.fw1.state_dir / "maintenance").exists()
    pair.fw1.until_event("web", "web: alice (10.1.0.50): enters maintenance")
    do(page, window, "maintenance", "comes back from fw2")
    expect_state(page, "fw1", "lan", "MASTER")
    assert not (pair.fw1.state_dir / "maintenance").exists()


def test_carp_is_disabled_and_enabled(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/vips")
    live(page)
    expect_state(page, "fw1", "lan", "MASTER")
    do(page, window, "carp", "lan is given up at once; fw2 stands by for it", shot="vips-disable")
    expect_state(page, "fw1", "lan", "INIT")
    expect_state(page, "fw2", "lan", "MASTER")
    do(page, window, "carp", "lan comes back from fw2")
    expect_state(page, "fw1", "lan", "MASTER")


def test_a_demotion_is_reset(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/vips")
    pair.fw1.hacore("demotion", "add", "slow disk", "100")
    expect(page.locator("#here")).to_contain_text("slow disk: 100")
    expect_state(page, "fw2", "lan", "MASTER")
    do(page, window, "reset", "slow disk (100)", "lan comes back from fw2")
    expect(page.locator("#reset")).to_have_count(0)
    expect_state(page, "fw1", "lan", "MASTER")


def test_what_is_asked_can_be_left_undone(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/vips")
    page.locator("#carp").click()
    page.get_by_role("link", name="Cancel").click()
    expect_state(page, "fw1", "lan", "MASTER")


def test_a_viewer_sees_no_button(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, "bob", "/vips")
    expect_state(page, "fw1", "lan", "MASTER")
    expect(page.locator("#maintenance")).to_be_hidden()
