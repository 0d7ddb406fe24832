"""For tests of the pages that act: sections with a check that can fail, and services of plain commands."""

from __future__ import annotations

from playwright.sync_api import Dialog, Page, expect

from tests.running_node import table
from tests.web.pages import PageNode, PagePair

RULES = """
[[section]]
id = "rules"
description = "Firewall rules"
paths = ["FILES/rules.conf", "FILES/rules.d"]
check = ["sh", "-c", "! grep -n nonsense $0 || { echo 'rules.conf: syntax error'; exit 1; }", "{root}FILES/rules.conf"]
apply = ["cp", "FILES/rules.conf", "FILES/applied"]
services = ["proxy"]
[[section]]
id = "vips"
"""


def service(name: str, description: str) -> str:
    """Runs while its file is there; cannot start while another one is. It writes a line at each start."""
    start = (
        f"test ! -e FILES/{name}.broken || {{ echo '{name}: cannot bind'; exit 1; }}; "
        f"echo . >> FILES/{name}.starts; touch FILES/{name}.runs"
    )
    return table(
        "service", id=name, description=description, start=["sh", "-c", start], stop=["rm", "-f", f"FILES/{name}.runs"],
        status=["sh", "-c", f"test -e FILES/{name}.runs || exit 3"],
    )  # fmt: skip


TABLES = (RULES, service("proxy", "Web proxy"), service("dhcp", "Leases"))


def starts(node: PageNode, name: str) -> int:
    path = node.files / f"{name}.starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def prepare(pair: PagePair) -> None:
    """fw1 has other rules than fw2; the services of both run."""
    pair.fw1.write("rules.conf", "accept from lan\ndrop all\n")
    pair.fw2.write("rules.conf", "drop all\n")
    for node in pair.nodes:
        for name in ("proxy", "dhcp"):
            node.write(f"{name}.runs", "")


def accept(dialog: Dialog) -> None:
    dialog.accept()


def expect_section(page: Page, name: str, text: str) -> None:
    row = page.locator("#sections tbody tr").filter(has=page.get_by_role("rowheader", name=name)).first
    expect(row.locator(".chip")).to_have_text(text)


def expect_service(page: Page, name: str, text: str) -> None:
    expect(page.locator(f'#services tr[data-service="{name}"] .chip')).to_have_text(text)


def to_backup(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Backup").click()


def update(page: Page, title: str) -> None:
    """From the page Backup to the end of the job."""
    page.get_by_role("link", name=title, exact=True).click()
    page.get_by_role("button", name=title, exact=True).click()
    page.wait_for_url("**/jobs/*")
    expect(page.locator("#result-title")).to_be_visible()
