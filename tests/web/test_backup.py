"""The page Backup in Chromium, on real pairs: update and its steps, services, a check that fails, the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Playwright, expect

from tests.web.backup_pair import (
    TABLES,
    accept,
    expect_section,
    expect_service,
    prepare,
    starts,
    to_backup,
    update,
)
from tests.web.pages import PagePair, Window, live, page_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PagePair]:
    with page_pair(tmp_path_factory.mktemp("pair"), *TABLES, wan_too=False) as made:
        prepare(made)
        yield made


def test_an_update_with_its_steps(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    expect_section(page, "rules", "not in sync")
    expect_section(page, "vips", "in sync")
    window.shot("backup")
    page.get_by_role("link", name="Difference of rules").click()
    expect(page.locator(".diff .plus").filter(has_text="+accept from lan")).to_be_visible()
    window.shot("backup-difference")
    page.get_by_role("link", name="Back", exact=True).click()
    page.get_by_role("link", name="Update and restart changed", exact=True).click()
    asked = page.locator(".will")
    expect(asked).to_contain_text("bring rules to fw2")
    expect(asked).to_contain_text("restart proxy there")
    window.shot("backup-confirm-update")
    before = starts(pair.fw2, "proxy"), starts(pair.fw2, "dhcp")
    page.get_by_role("button", name="Update and restart changed").click()
    expect(page.locator("#result-title")).to_contain_text("Applied on fw2 as revision 2")
    steps = page.locator(".steps li b").all_inner_texts()
    assert [name for name in ("Compare", "Stage", "Check", "Swap", "Apply", "Restart", "Verify") if name in steps] == [
        "Compare", "Stage", "Check", "Swap", "Apply", "Restart", "Verify",
    ], steps  # fmt: skip
    expect(page.locator(".result")).to_contain_text("proxy restarted")
    window.shot("backup-update-done")
    assert (pair.fw2.files / "applied").read_text() == "accept from lan\ndrop all\n"
    assert (starts(pair.fw2, "proxy"), starts(pair.fw2, "dhcp")) == (before[0] + 1, before[1])
    to_backup(page)
    expect_section(page, "rules", "in sync")
    expect(page.locator("#sections")).to_contain_text("revision 2")
    pair.fw1.until_event("web", "web: alice (10.1.0.50): update and restart changed on fw2")


def test_update_and_restart_all(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    before = starts(pair.fw2, "proxy"), starts(pair.fw2, "dhcp")
    update(page, "Update and restart all")
    expect(page.locator("#result-title")).to_contain_text("has all of it")
    expect(page.locator(".result")).to_contain_text("dhcp restarted")
    assert (starts(pair.fw2, "proxy"), starts(pair.fw2, "dhcp")) == (before[0] + 1, before[1] + 1)


def test_a_plain_update_restarts_nothing(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    pair.fw1.write("rules.d/more", "more\n")
    before = starts(pair.fw2, "proxy")
    update(page, "Update")
    expect(page.locator("#result-title")).to_contain_text("Applied on fw2")
    assert starts(pair.fw2, "proxy") == before
    assert (pair.fw2.files / "rules.d/more").read_text() == "more\n"


def test_a_program_pushes(pair: PagePair, window: Window) -> None:
    """Over the API, asked from the page's origin: the browser is the program here."""
    pair.fw1.write("rules.d/more", "from a program\n")
    token = pair.fw1.hacore("web", "token", "add", "deploy", "--role", "administrator").stdout.strip()
    page = window.sign_in(pair.fw1, path="/backup")
    text = page.evaluate(
        """token => fetch("/api/v1/config/push", {
             method: "POST", body: "{}",
             headers: {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
           }).then(answer => answer.text())""",
        token,
    )
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0]["progress"]["step"] == "compare"
    assert lines[-1]["outcome"]["result"] == "applied"
    assert (pair.fw2.files / "rules.d/more").read_text() == "from a program\n"
    figures = page.evaluate(
        """token => fetch("/metrics", {headers: {"Authorization": "Bearer " + token}}).then(answer => answer.text())""",
        token,
    )
    assert 'hacore_pushes_total{direction="to",peer="fw2",result="applied"}' in figures
    assert 'hacore_vip_state{interface="lan",state="MASTER",vhid="1",vip="lan"} 1.0' in figures
    assert 'hacore_service_state{service="proxy",state="running"} 1.0' in figures
    pair.fw1.until_event("web", "API token: deploy (10.1.0.50): POST /api/v1/config/push")


def test_one_service_and_all(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    page.on("dialog", accept)
    live(page)
    before = starts(pair.fw2, "proxy")
    expect_service(page, "proxy", "running")
    page.get_by_role("button", name="Restart proxy", exact=True).click()
    expect(page.locator("#said")).to_contain_text("proxy on fw2: restarted")
    assert starts(pair.fw2, "proxy") == before + 1
    page.get_by_role("button", name="Stop proxy", exact=True).click()
    expect(page.locator("#said")).to_contain_text("proxy on fw2: stopped")
    expect_service(page, "proxy", "stopped")
    (pair.fw2.files / "proxy.broken").touch()
    page.get_by_role("button", name="Start proxy", exact=True).click()
    expect(page.locator("#said pre")).to_contain_text("proxy: cannot bind")
    window.shot("backup-service-fails")
    (pair.fw2.files / "proxy.broken").unlink()
    page.get_by_role("button", name="Start proxy", exact=True).click()
    expect_service(page, "proxy", "running")
    before = starts(pair.fw2, "dhcp")
    page.get_by_role("link", name="Restart all services").click()
    expect(page.locator(".will")).to_contain_text("dhcp")
    window.shot("backup-confirm-restart-all")
    page.get_by_role("button", name="Restart all services", exact=True).click()
    expect(page.locator("#result-title .chip")).to_have_text("done")
    expect(page.locator(".steps li.done")).to_have_count(2)
    assert starts(pair.fw2, "dhcp") == before + 1


def test_a_failing_check_is_read_on_the_page_and_a_revision_brought_back(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    pair.fw1.write("rules.conf", "accept from lan\nnonsense\n")
    update(page, "Update and restart changed")
    expect(page.locator("#result-title")).to_contain_text("Nothing was changed on fw2")
    expect(page.locator(".result pre")).to_contain_text("2:nonsense")
    expect(page.locator(".result pre")).to_contain_text("syntax error")
    window.shot("backup-check-fails")
    assert "nonsense" not in (pair.fw2.files / "rules.conf").read_text()

    to_backup(page)
    page.locator("#return-1").click()
    expect(page.locator(".diff .minus").filter(has_text="-accept from lan")).to_be_visible()
    window.shot("backup-confirm-return")
    page.get_by_role("button", name="Return to revision 1").click()
    expect(page.locator("#result-title")).to_contain_text("Applied on fw2 as revision")
    assert (pair.fw2.files / "rules.conf").read_text() == "drop all\n"
    to_backup(page)
    expect(page.locator("#sections .stack").last).to_contain_text("newest")
    pair.fw1.until_event("web", "returns fw2 to revision 1")
    pair.fw1.write("rules.conf", "accept from lan\ndrop all\n")


def test_by_the_keyboard_alone(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, path="/backup")
    live(page)
    press_to(page, "update-changed")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-title")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('form.ask button')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_be_visible()
    assert page.locator("#result-title .chip").inner_text() == "done", page.locator("#content").inner_text()
    page.goto(pair.fw1.url + "/backup")
    page.on("dialog", accept)
    live(page)
    press_to(page, "restart-proxy")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("restarted")
    page.wait_for_function("document.activeElement.id == 'restart-proxy'")


def press_to(page: object, element: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")  # type: ignore[attr-defined]
        if page.evaluate("document.activeElement.id") == element:  # type: ignore[attr-defined]
            return
    raise AssertionError(f"{element} cannot be reached")


def test_a_viewer_looks_and_does_nothing(pair: PagePair, window: Window) -> None:
    page = window.sign_in(pair.fw1, "bob", "/backup")
    expect_service(page, "proxy", "running")
    expect(page.get_by_role("link", name="Update", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Restart proxy", exact=True)).to_have_count(0)
    assert page.evaluate("fetch('/backup/update').then(answer => answer.status)") == 403
    window.problems.clear()  # the browser tells of it


def test_a_guard_is_decided_on_the_page(pair: PagePair, window: Window) -> None:
    """Pushed from the BACKUP to the MASTER: said before, refused as long as nobody decides."""
    pair.fw2.write("rules.conf", "accept from wan\ndrop all\n")
    page = window.sign_in(pair.fw2, path="/backup")
    expect_section(page, "rules", "not in sync")
    page.get_by_role("link", name="Update", exact=True).click()
    expect(page.locator(".objections")).to_contain_text("fw2 is not MASTER of lan")
    page.get_by_role("button", name="Update", exact=True).click()
    expect(page.locator(".result")).to_contain_text("fw2 is not MASTER of lan")
    window.shot("backup-guard")
    page.get_by_role("link", name="Decide on that").click()
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Update", exact=True).click()
    expect(page.locator("#result-title")).to_contain_text("Applied on fw1")


def test_what_the_other_node_does_not_say_is_not_shown_as_well(
    playwright: Playwright, pair: PagePair, window: Window
) -> None:
    """Last in this module: fw2 loses its power."""
    page = window.sign_in(pair.fw1, path="/backup")
    expect_service(page, "proxy", "running")
    live(page)
    pair.fw2.power_off(pair.segment)
    expect(page.locator("#sections .silence")).to_contain_text("No word since")
    expect_service(page, "proxy", "no word")
    expect(page.locator("#sections .chip.good")).to_have_count(0)
    window.shot("backup-no-word")
