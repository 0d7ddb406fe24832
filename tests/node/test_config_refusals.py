"""What no peer may send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hacore.configsync.manifest import BadManifest, Entry, Manifest
from hacore.configsync.stream import head
from hacore.errors import WireError
from hacore.node.config_store import StoreError
from tests.node.config_pair import Side, push, request, sending
from tests.node.rules_pair import SECTION, fill, rules_pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from rules_pair(tmp_path)


def file(path: str, **more: object) -> Entry:
    return msgspec.structs.replace(Entry(path, "file", 0o644, "root", "root", 1, "ab" * 32), **more)


FOLDER = Entry("/etc/rules.d", "folder", 0o755, "root", "root")


@pytest.mark.parametrize(
    ("code", "entries"),
    [
        ("path-not-normal", [FOLDER, file("/etc/rules.d/../passwd")]),
        ("path-not-absolute", [file("etc/rules.conf")]),
        ("path-not-normal", [file("/etc/./rules.conf")]),
        ("path-not-normal", [file("/etc/rules.conf/")]),
        ("path-not-normal", [file("/etc/rules.d/a\0b")]),
        ("path-outside", [file("/etc/passwd")]),
        ("path-outside", [file("/etc/rules.dd")]),
        ("path-twice", [file("/etc/rules.conf"), file("/etc/rules.conf")]),
        ("manifest", [FOLDER, file("/etc/rules.conf")]),
        ("parent-no-folder", [file("/etc/rules.d/x")]),
        ("parent-no-folder", [file("/etc/rules.d"), file("/etc/rules.d/x")]),
        (
            "parent-no-folder",
            [Entry("/etc/rules.d", "link", 0, "root", "root", target="/root"), file("/etc/rules.d/x")],
        ),
        ("mode", [file("/etc/rules.conf", mode=0o100644)]),
        ("too-large", [file("/etc/rules.conf", size=1 << 60)]),
        ("too-large", [file("/etc/rules.conf", size=-1)]),
        ("digest", [file("/etc/rules.conf", digest="../../etc/passwd")]),
        ("owner", [file("/etc/rules.conf", owner="")]),
        ("manifest", [file("/etc/rules.conf", kind="settings")]),
        ("manifest", [file("/etc/rules.conf", target="x")]),
        ("template", [file("/etc/rules.conf", template=True)]),
        ("path-not-normal", [FOLDER, file("/etc/rules.d/.hacore-new-x")]),
        ("path-too-long", [FOLDER, file("/etc/rules.d/" + "x" * 256)]),
    ],
)
def test_manifests_that_are_refused(pair: tuple[Side, Side], code: str, entries: list[Entry]) -> None:
    a, b = pair
    asked = msgspec.structs.replace(request(a, b, ["rules"]), sections=[Manifest("rules", tuple(entries))])
    with pytest.raises(BadManifest) as caught:
        b.node.open(asked)
    assert caught.value.code == code
    assert b.picture() == {}
    assert b.node.busy == ""


@pytest.mark.parametrize("target", ["/etc/passwd", "../passwd", "../../root/.ssh", "deep/../../../x", "../rules.dd"])
def test_links_out_of_a_section_are_refused(pair: tuple[Side, Side], target: str) -> None:
    a, b = pair
    fill(a)
    os.symlink(target, a.tree / "etc/rules.d/out")
    with pytest.raises(BadManifest) as caught:
        push(a, b, ["rules"])
    assert caught.value.code == "link-outside"
    assert b.picture() == {}
    assert b.node.busy == ""
    b.write_settings(SECTION + "outside_links = true\n")
    assert push(a, b, ["rules"]).result == "applied"
    assert os.readlink(b.tree / "etc/rules.d/out") == target


def test_a_link_on_the_receiving_node_is_not_followed(pair: tuple[Side, Side], tmp_path: Path) -> None:
    a, b = pair
    fill(a)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "10-a.conf").write_text("untouched")
    (b.tree / "etc").mkdir()
    os.symlink(victim, b.tree / "etc/rules.d")
    assert push(a, b, ["rules"]).result == "applied"
    assert (victim / "10-a.conf").read_text() == "untouched"
    assert list(victim.iterdir()) == [victim / "10-a.conf"]
    assert b.picture() == a.picture()


def test_an_unknown_section(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write_settings(SECTION + '[[section]]\nid = "more"\npaths = ["/etc/more"]\n')
    with pytest.raises(BadManifest, match='fw2 has no section "more"; there are: rules'):
        push(a, b, ["more"])


def test_an_unknown_owner(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    asked = request(a, b, ["rules"])
    entries = tuple(msgspec.structs.replace(each, owner="nobody-here") for each in asked.sections[0].entries)
    asked = msgspec.structs.replace(asked, sections=[Manifest("rules", entries)])
    opened = b.node.open(asked)
    for data in sending(a, b, ["rules"]).stream(opened.lacking):
        b.node.take(opened.transaction, data)
    outcome = b.node.commit(opened.transaction, lambda _: None)
    assert outcome.failure is not None
    assert "no user nobody-here" in outcome.failure.message


def test_contents_that_are_not_what_was_announced(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    asked = request(a, b, ["rules"])
    opened = b.node.open(asked)
    with pytest.raises(WireError, match="contents missing"):
        b.node.commit(opened.transaction, lambda _: None)
    b.node.discard(opened.transaction)
    opened = b.node.open(asked)
    digest, size = next(iter(opened.lacking.items()))
    with pytest.raises(StoreError, match="changed while it was sent"):
        b.node.take(opened.transaction, head(digest, size) + b"x" * size)
    b.node.discard(opened.transaction)
    opened = b.node.open(asked)
    with pytest.raises(WireError, match="were announced"):
        b.node.take(opened.transaction, head(digest, size + 1))
    b.node.discard(opened.transaction)
    assert push(a, b, ["rules"]).result == "applied"
