"""Pairs of real nodes with the status page, and a browser on a machine of their LAN."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from hacore.control.trial_certificates import make_test_certificates
from tests.control.push_pair import PushNode
from tests.namespaces import Host
from tests.running_node import HACORE, PATIENCE, Segment, table, vip, wan

SCREENSHOTS = Path(os.environ.get("HACORE_SCREENSHOTS", "build/screenshots")).absolute()
PASSWORD = "correct horse battery"
USERS = {"alice": "administrator", "bob": "viewer"}
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=PATIENCE * 1000)


class PageNode(PushNode):
    """A node with a page at `url`."""

    url = ""

    def add_user(self, name: str, role: str) -> None:
        command = [*HACORE, "-c", str(self.settings), "web", "user", "add", name, "--role", role]
        subprocess.run(command, input=f"{PASSWORD}\n", text=True, check=True, capture_output=True, timeout=60)

    def power_off(self, segment: Segment) -> None:
        """Its cable first, so that nothing says that it ends."""
        segment.cut(self.host)
        self.kill()

    def until_page(self) -> None:
        self.until(lambda: not any(text.startswith("[web]") for text in self.status()["node"]["warnings"]))


class PagePair:
    """fw1, MASTER, and fw2, with states and pages; `client` is a machine beside them, on which the browser runs."""

    def __init__(self, segment: Segment, nodes: tuple[PageNode, PageNode], client: Host) -> None:
        self.segment, self.client = segment, client
        self.fw1, self.fw2 = self.nodes = nodes

    def connections(self, node: PageNode, count: int, first: int = 1) -> None:
        """Puts connections into the kernel of a node, as traffic through it would."""
        lines = "".join(
            f"-I -p tcp -s 10.1.{1 + (number >> 8 & 127)}.{number & 255} -d 10.2.0.50 --sport {20000 + number % 40000} "
            "--dport 443 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 3600\n"
            for number in range(first, first + count)
        )
        with node.host.entered():
            subprocess.run(["conntrack", "-R", "-"], input=lines, text=True, check=True, capture_output=True)


@contextmanager
def page_pair(directory: Path, *tables: str, wan_too: bool = True, **settings: Any) -> Iterator[PagePair]:
    """In `tables`, FILES stands for the path of the nodes' own files, as in `push_pair`."""
    make_test_certificates(directory / "certificates", ["fw1", "fw2"])
    shared = directory / "shared"
    shared.mkdir()
    with Segment(directory) as segment:
        made = []
        for label, number in (("fw1", 11), ("fw2", 12)):
            node = PageNode(segment.host(label, number), directory / label)
            if wan_too:
                segment.connect(node.host, number, "wan")
            node.shared = shared
            node.files.mkdir()
            node.url = f"https://10.1.0.{number}:8118"
            segment.nodes.append(node)
            made.append(node)
        client = segment.host("client", 50)
        for node, other, number in ((made[0], made[1], 11), (made[1], made[0], 12)):
            skew: dict[str, Any] = {"advskew": 20 if number == 11 else 40, "advskew_step": 20}
            node.configure(
                vip(**skew | settings),
                *([wan(**skew | settings)] if wan_too else []),
                table(
                    "peer", name=other.name, control=f"10.1.0.{23 - number}:8117", states=f"10.1.0.{23 - number}:8116"
                ),
                f'[control]\nlisten = "10.1.0.{number}:8117"',
                f'[states]\nlisten = "10.1.0.{number}:8116"\nbulk_deadline = 5.0',
                f'[web]\nlisten = "10.1.0.{number}:8118"',
                *(each.replace("FILES", str(shared)) for each in tables),
            )
            (node.state_dir / "tls").mkdir(parents=True)
            for file in ("node.crt", "node.key", "peers.pem"):
                content = (directory / "certificates" / node.name / file).read_bytes()
                (node.state_dir / "tls" / file).write_bytes(content)
            for name, role in USERS.items():
                node.add_user(name, role)
        segment.start_in_turn(made[0], made[1])
        for node in made:
            node.until_control_runs()
            node.until_page()
        yield PagePair(segment, (made[0], made[1]), client)


@contextmanager
def chromium(playwright: Playwright, host: Host, directory: Path) -> Iterator[Browser]:
    """Debian's Chromium, in the network of `host`."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is missing; install the Debian package chromium")
    start = directory / "chromium-in-namespace"
    start.write_text(f'#!/bin/sh\nexec ip netns exec {host.name} {path} "$@"\n')
    start.chmod(0o700)
    browser = playwright.chromium.launch(
        executable_path=start, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"], timeout=60_000
    )
    try:
        yield browser
    finally:
        browser.close()


class Window:
    """One page of a browser, as a person uses it."""

    def __init__(self, browser: Browser, *, dark: bool = False, phone: bool = False, script: bool = True) -> None:
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True, viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light", device_scale_factor=2 if phone else 1, has_touch=phone,
            java_script_enabled=script,
        )  # fmt: skip
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def sign_in(self, node: PageNode, user: str = "alice", path: str = "/") -> Page:
        self.page.goto(node.url + path)
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(re.compile(re.escape(node.url + path) + "$"))
        return self.page

    def shot(self, name: str, *, full: bool = True) -> Path:
        """Kept by the run."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=full)
        return path

    def close(self) -> None:
        self.context.close()


def live(page: Page) -> None:
    """Until the page is told what changes."""
    before = page.locator("#pulse b").get_attribute("data-now")
    page.wait_for_function("before => document.querySelector('#pulse b').dataset.now != before", arg=before)


def wait_for(page: Page, node: str, state: str, vip: str = "lan") -> None:
    expect(page.locator(f'#roles td[data-node="{node}"][data-vip="{vip}"] .chip')).to_have_text(state)
