"""A push whose power, or whose worker, goes in the middle; and what the next one finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hacore.linux.process import boot_id
from tests.node.config_pair import Side, push

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
check = ["test", "-e", "{root}/etc/rules.conf"]
apply = ["cp", "TREE/etc/rules.conf", "TREE/../applied"]
services = ["one"]
[[service]]
id = "one"
unit = "one.service"
"""


class PowerCut(BaseException):
    """Nothing after it is carried out."""


def applied(side: Side) -> str:
    return (side.directory / "applied").read_text()


def change(side: Side, old: str, new: str) -> None:
    """In its settings."""
    text = side.settings_file.read_text()
    assert old in text
    side.settings_file.write_text(text.replace(old, new))


def journal(side: Side) -> Path:
    return side.directory / "state/config/journal.json"


def packs(side: Side) -> list[str]:
    return sorted(path.name for path in (side.directory / "state/config/packs").iterdir())


def cut_at(patch: pytest.MonkeyPatch, place: type, name: str, *, after: bool = False) -> None:
    """The power goes when this is called, before or after it did its work; only the first time."""
    real = getattr(place, name)

    def cut(*arguments: Any) -> None:
        patch.setattr(place, name, real)
        if after:
            real(*arguments)
        raise PowerCut

    patch.setattr(place, name, cut)


def interrupt(pair: tuple[Side, Side], *, another_boot: bool) -> None:
    """The push does not get to its end; the next worker of fw2 has started, and has not recovered yet."""
    a, b = pair
    with pytest.raises(PowerCut):
        push(a, b, ["rules"])
    if another_boot:
        set_boot(b, "another")
    b.restart()


def set_boot(side: Side, boot: str) -> None:
    """Of its journal, which is of this boot."""
    record = json.loads(journal(side).read_bytes())
    assert record["boot"] == boot_id()
    journal(side).write_text(json.dumps(record | {"boot": boot}))
