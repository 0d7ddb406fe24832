"""The overview in Chromium: with a mouse, with a keyboard, on a phone, in the dark, and when something breaks."""

from __future__ import annotations

import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, Playwright, expect

from tests.web.pages import PASSWORD, PagePair, Window, chromium, live, page_pair, wait_for

SERIOUS = {"serious", "critical"}


def faults(page: Page) -> list[str]:
    """What axe-core finds that keeps somebody from using the page."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found if one["impact"] in SERIOUS for node in one["nodes"]]


def test_both_nodes_side_by_side(pair: PagePair, window: Window) -> None:
    window.page.goto(pair.fw1.url)
    expect(window.page.get_by_role("heading", name="Sign in to fw1")).to_be_visible()
    assert faults(window.page) == []
    window.shot("login")
    page = window.sign_in(pair.fw1)
    live(page)
    pair.connections(pair.fw1, 400)
    expect(page.locator(".verdict")).to_have_text("Healthy")
    for vip in ("lan", "wan"):
        wait_for(page, "fw1", "MASTER", vip)
        wait_for(page, "fw2", "BACKUP", vip)
    rows = page.locator("#states tbody tr").first.locator("td b")
    expect(rows).to_have_text(["400", "400"], timeout=30_000)
    expect(page.locator("#charts figure")).to_have_count(3)
    expect(page.locator("#timeline li.taken")).to_have_count(2)
    expect(page.locator('#nodes article[data-node="fw2"]')).to_contain_text("10.1.0.11 on lan, vhid 1")
    assert page.locator("time").count() > 20, "every figure has its age"
    assert faults(page) == []
    window.shot("overview")


def test_a_failover_is_on_both_pages_without_a_reload(pair: PagePair, browser: Browser, window: Window) -> None:
    here = window.sign_in(pair.fw1)
    second = Window(browser, dark=True)
    there = second.sign_in(pair.fw2)
    for page in (here, there):
        live(page)
        page.evaluate("window.sameDocument = true")
    pair.fw1.hacore("maintenance", "enter")
    for page in (here, there):
        for vip in ("lan", "wan"):
            wait_for(page, "fw2", "MASTER", vip)
            wait_for(page, "fw1", "BACKUP", vip)
        expect(page.locator(".findings")).to_contain_text("fw1 is in maintenance")
        expect(page.locator("#timeline")).to_contain_text("fw2lan (1@lan): BACKUP -> MASTER")
    window.shot("failover-fw1")
    second.shot("failover-fw2-dark")
    pair.fw1.hacore("maintenance", "leave")
    for page in (here, there):
        wait_for(page, "fw1", "MASTER")
        expect(page.locator(".verdict")).to_have_text("Healthy")
        assert page.evaluate("window.sameDocument")
    second.close()
    assert not second.problems


def test_a_phone_in_the_dark(pair: PagePair, browser: Browser) -> None:
    window = Window(browser, phone=True, dark=True)
    page = window.sign_in(pair.fw2, user="bob")
    live(page)
    expect(page.locator(".verdict")).to_have_text("Healthy")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
    assert faults(page) == []
    window.shot("phone-dark")
    window.close()
    light = Window(browser, phone=True)
    page = light.sign_in(pair.fw1, user="bob")
    assert faults(page) == []
    light.shot("phone")
    light.close()
    dark = Window(browser, dark=True)
    page = dark.sign_in(pair.fw1)
    live(page)
    assert faults(page) == []
    dark.shot("overview-dark")
    dark.close()


def test_the_keyboard_alone(pair: PagePair, window: Window) -> None:
    page = window.page
    page.goto(pair.fw1.url)
    expect(page.get_by_label("User")).to_be_focused()
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(pair.fw1.url + "/")
    live(page)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    window.shot("keyboard-skip", full=False)
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
        visible = "getComputedStyle(document.activeElement).outlineStyle != 'none'"
        assert page.evaluate(f"document.activeElement == document.body || {visible}"), reached[-1]
        if reached[-1] == "Sign out":
            break
    assert "Sign out" in reached
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/login$"))
    assert page.evaluate("fetch('/', {redirect: 'manual'}).then(answer => answer.status)") in (0, 401)
    window.problems.clear()  # the refusal above


def test_without_scripts_it_still_says_everything(pair: PagePair, browser: Browser) -> None:
    window = Window(browser, script=False)
    page = window.sign_in(pair.fw1, user="bob")
    wait_for(page, "fw1", "MASTER")
    expect(page.locator('#roles td[data-node="fw1"][data-vip="lan"] time').last).to_contain_text(
        re.compile(r"\d+ [smh]")
    )
    window.close()


def test_a_region_that_is_sent_again_leaves_the_rest_alone(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1)
    live(page)
    page.evaluate("window.before = document.querySelector('#roles table')")
    pair.connections(pair.fw1, 50, 10_000)
    rows = page.locator("#states tbody tr").first.locator("td b").first
    expect(rows).not_to_have_text("400")
    assert page.evaluate("window.before === document.querySelector('#roles table')"), "nothing changed in it"


def test_a_backup_without_power_and_a_page_without_its_node(playwright: Playwright, tmp_path: Path) -> None:
    with page_pair(tmp_path) as pair, chromium(playwright, pair.client, tmp_path) as browser:
        window, lost = Window(browser), Window(browser)
        page, orphan = window.sign_in(pair.fw1), lost.sign_in(pair.fw2)
        for one in (page, orphan):
            live(one)
            wait_for(one, "fw2", "BACKUP")
        pair.fw2.power_off(pair.segment)
        wait_for(page, "fw2", "no word")
        card = page.locator('#nodes article[data-node="fw2"]')
        expect(card).to_contain_text(re.compile(r"No word since \d\d:\d\d:\d\d"))
        expect(page.locator(".verdict")).to_have_text("Trouble")
        expect(page.locator(".findings")).to_contain_text(re.compile(r"fw2: no word since \d\d:\d\d:\d\d \(.+\)"))
        wait_for(page, "fw1", "MASTER")
        assert card.locator(".chip.good").evaluate_all(
            "found => found.every(one => getComputedStyle(one, '::before').content == '\"was\"')"
        )
        assert faults(page) == []
        window.shot("power-loss")
        expect(orphan.locator("#lost")).to_contain_text("No connection to fw2")
        assert orphan.locator(".verdict b").evaluate("one => getComputedStyle(one).fontSize") == "0px", "not healthy"
        assert faults(orphan) == []
        lost.shot("page-without-its-node")
        pair.segment.mend(pair.fw2.host)
        pair.fw2.start()
        wait_for(page, "fw2", "BACKUP")
        expect(orphan.locator("#lost")).to_contain_text("You are signed out")
        orphan.get_by_role("link", name="Sign in again").click()
        expect(orphan.get_by_role("heading", name="Sign in to fw2")).to_be_visible()
        window.shot("power-is-back")
