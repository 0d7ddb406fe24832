"""Access control lists, capabilities of files and user attributes travel with a push, and come with a roll-back."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.configsync.attributes import to_value
from tests.node.config_pair import VIP, Side, push, two_sides

SECTION = '[[section]]\nid = "rules"\npaths = ["/etc/rules.d"]\n'
ACCESS, DEFAULT, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
CAN_BIND = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep; linux/capability.h, version 2


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from two_sides(tmp_path, SECTION)


def acl(text: str) -> bytes:
    return to_value(ACCESS, text, lambda name: int(name[1:]), lambda name: int(name[1:]))


def attributes(side: Side) -> dict[str, dict[str, bytes]]:
    """Of everything in the tree that has any."""
    found = {}
    for path in sorted((side.tree / "etc/rules.d").rglob("*")):
        if names := os.listxattr(path, follow_symlinks=False):
            found[path.name] = {name: os.getxattr(path, name) for name in names}
    return found


def fill(side: Side) -> None:
    for name in ("list", "program", "comment", "plain"):
        side.write(f"/etc/rules.d/{name}", name, 0o640)
    side.write("/etc/rules.d/folder/inner", "inner", 0o640)
    place = side.tree / "etc/rules.d"
    os.setxattr(place / "list", ACCESS, acl("user::rw-,user:#4242:r--,group::r--,mask::rw-,other::---"))
    os.chown(place / "program", 1, 1)
    os.setxattr(place / "program", CAPABILITY, CAN_BIND)
    os.setxattr(place / "comment", "user.comment", b"\0why")
    os.setxattr(place / "folder", DEFAULT, acl("user::rwx,group::r-x,group:#4242:rwx,mask::rwx,other::---"))


def test_they_travel(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    assert push(a, b).result == "applied"
    assert b.picture() == a.picture()
    there = attributes(b)
    assert there == attributes(a)
    # what the folder gives to new files is not given to those that the master has without
    assert sorted(there) == ["comment", "folder", "list", "program"]
    assert push(a, b).result == "unchanged"


def test_a_change_of_them_alone_is_a_difference(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    push(a, b)
    place = a.tree / "etc/rules.d"
    os.removexattr(place / "list", ACCESS)
    os.setxattr(place / "comment", "user.comment", b"other")
    os.setxattr(place / "plain", CAPABILITY, CAN_BIND)
    os.removexattr(place / "folder", DEFAULT)
    inode = (b.tree / "etc/rules.d/plain").stat().st_ino
    assert push(a, b).result == "applied"
    assert attributes(b) == attributes(a)
    assert b.picture() == a.picture()
    assert (b.tree / "etc/rules.d/plain").stat().st_ino == inode  # the content was not written again


def test_they_come_back(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(b)
    before, picture = attributes(b), b.picture()
    fill(a)
    for name in ("list", "program", "comment"):
        (a.tree / "etc/rules.d" / name).unlink()
        a.write(f"/etc/rules.d/{name}", "new")
    assert push(a, b).result == "applied"
    assert attributes(b) == attributes(a)
    assert b.node.roll_back(1, lambda _progress: None, by="fw2").result == "applied"
    assert (attributes(b), b.picture()) == (before, picture)


def test_a_failed_apply_puts_them_back(pair: tuple[Side, Side]) -> None:
    a, b = pair
    b.write_settings(SECTION + 'apply = ["false"]\n' + VIP.format(advskew=100))
    fill(b)
    before, picture = attributes(b), b.picture()
    a.write("/etc/rules.d/list", "new")
    assert push(a, b).result == "undone"
    assert (attributes(b), b.picture()) == (before, picture)


def test_those_of_a_node_stay_its_own(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    push(a, b)
    os.setxattr(b.tree / "etc/rules.d/plain", "trusted.local", b"x")
    assert push(a, b).result == "unchanged"
    os.setxattr(a.tree / "etc/rules.d/plain", "user.note", b"y")
    assert push(a, b).result == "applied"
    assert attributes(b)["plain"] == {"trusted.local": b"x", "user.note": b"y"}


def test_a_user_that_the_backup_does_not_have(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    fill(a)
    monkeypatch.setattr("hacore.node.config_attributes.user_name", lambda _: "nobody-knows-me")
    outcome = push(a, b)
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert "no user nobody-knows-me" in outcome.failure.message
    assert not (b.tree / "etc").exists()


def test_what_is_not_utf_8_is_told_of_its_section_alone(pair: tuple[Side, Side]) -> None:
    a, _ = pair
    place = a.write("/etc/rules.d/file", "x\n")
    link = os.fsencode(place.parent / "link")
    os.symlink(b"caf\xe9", link)
    assert "the target of the link /etc/rules.d/link is not UTF-8" in a.node.overview(["rules"])[0].problem
    os.unlink(link)
    os.symlink("caf\u00e9", link)
    assert a.node.overview(["rules"])[0].problem == ""
    for what in (place, place.parent):
        os.setxattr(what, b"user.caf\xe9", b"1")
        assert "is not UTF-8" in a.node.overview(["rules"])[0].problem
        os.removexattr(what, b"user.caf\xe9")
