"""Two nodes with a section of firewall rules, for pushes between their trees of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.node.config_pair import VIP, Side, two_sides

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
"""

TWO = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf"]
[[section]]
id = "other"
paths = ["/etc/other"]
"""


def rules_pair(directory: Path) -> Iterator[tuple[Side, Side]]:
    yield from two_sides(directory, SECTION)


def fill(side: Side) -> None:
    side.write("/etc/rules.conf", "accept all\n", 0o600)
    side.write("/etc/rules.d/10-a.conf", "one\n")
    side.write("/etc/rules.d/deep/er/b.conf", "two\n", 0o755)
    (side.tree / "etc/rules.d/empty").mkdir()
    os.symlink("10-a.conf", side.tree / "etc/rules.d/link")


def commands(side: Side, check: list[str] | None = None, apply: list[str] | None = None, services: str = "") -> None:
    keys = [f"{name} = {value!r}" for name, value in (("check", check), ("apply", apply)) if value]
    side.write_settings(SECTION + "\n".join(keys) + "\n" + services + VIP.format(advskew=100))
