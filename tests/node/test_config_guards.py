"""What keeps a push from replacing what it should not: guards, and changes on the receiving node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hacore.node.config_install import Installer
from hacore.node.config_lock import Busy
from hacore.node.config_node import Guarded
from tests.node.config_pair import Side, push, request, sending
from tests.node.rules_pair import TWO, commands, fill, rules_pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from rules_pair(tmp_path)


def test_guards_of_the_receiving_node(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    b.states = {"lan": "MASTER"}
    with pytest.raises(Guarded, match=r"(?s)MASTER of lan \(--even-if-peer-is-master.*versions-differ"):
        push(a, b, ["rules"], version="0.0.1")
    assert b.node.busy == ""
    assert push(a, b, ["rules"], version="0.0.1", overrides=["peer-is-master", "versions-differ"]).result == "applied"
    b.states = {}
    b.write("/etc/rules.conf", "by hand\n")
    a.write("/etc/rules.conf", "anew\n")
    assert b.node.overview()[0].changed
    with pytest.raises(Guarded, match="rules changed on fw2 itself"):
        push(a, b, ["rules"])
    assert push(a, b, ["rules"], overrides=["changed-there"]).result == "applied"
    kinds = [each.kind for each in b.node.parts.revisions.all()]
    assert kinds == ["found", "push", "found", "push"]  # what was there by hand can be returned to
    b.node.roll_back(3, lambda _: None, by="admin")
    assert b.read("/etc/rules.conf") == "by hand\n"


def test_guards_are_asked_again_at_the_commit(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    assert push(a, b, ["rules"]).result == "applied"
    a.write("/etc/rules.conf", "anew\n")
    for overrides in ([], ["peer-is-master"]):
        prepared = sending(a, b, ["rules"])
        opened = b.node.open(prepared.request(overrides=overrides))
        for data in prepared.stream(opened.lacking):
            b.node.take(opened.transaction, data)
        b.states = {"lan": "MASTER"}
        b.write("/etc/rules.conf", "by hand\n")
        with pytest.raises(Guarded) as caught:
            b.node.commit(opened.transaction, lambda _: None)
        assert [each.code for each in caught.value.objections] == ["peer-is-master"] * (not overrides) + [
            "changed-there"
        ]
        assert b.read("/etc/rules.conf") == "by hand\n"
        assert b.node.busy == ""
        assert not list(b.node.parts.store.directory.glob("*.new"))
        b.states = {}
        b.write("/etc/rules.conf", "accept all\n", 0o600)


@pytest.mark.parametrize("late", ["/etc/rules.conf", "/etc/rules.d/deep/late"])
def test_what_changes_here_while_the_checks_run_is_not_lost(pair: tuple[Side, Side], late: str) -> None:
    a, b = pair
    a.write("/etc/rules.conf", "new\n")
    a.write("/etc/rules.d/deep", "a file now")
    fill(b)
    before = b.picture()
    commands(b, check=["sh", "-c", f"echo precious > {b.tree}{late}"])
    outcome = push(a, b, ["rules"])
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert outcome.failure.code == "changed-meanwhile"
    assert late in outcome.failure.output
    assert b.read(late) == "precious\n"
    name = late.removeprefix("/")
    assert before | {name: None} == b.picture() | {name: None}
    commands(b)
    assert push(a, b, ["rules"]).result == "applied"
    b.node.roll_back(b.node.previous().number, lambda _: None, by="admin")
    assert b.read(late) == "precious\n"


def test_a_folder_that_a_file_replaces_takes_nothing_unknown_with_it(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    a.write("/etc/rules.d/deep", "a file now")
    fill(b)
    before = b.picture()
    flush = Installer._flush

    def late(installer: Installer) -> None:
        """Just before the first file is replaced."""
        monkeypatch.setattr(Installer, "_flush", flush)
        flush(installer)
        b.write("/etc/rules.d/deep/er/late", "precious\n")

    monkeypatch.setattr(Installer, "_flush", late)
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert b.read("/etc/rules.d/deep/er/late") == "precious\n"
    assert before == {path: each for path, each in b.picture().items() if path != "etc/rules.d/deep/er/late"}


def test_one_at_a_time(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    asked = request(a, b, ["rules"])
    opened = b.node.open(asked)
    with pytest.raises(Busy, match="fw1 pushes rules"):
        b.node.open(msgspec.structs.replace(asked, sender="fw3"))
    with pytest.raises(Busy):
        b.node.claim("a push to fw1")
    again = b.node.open(asked)  # fw1 itself has given the first one up
    b.node.discard(opened.transaction)
    assert b.node.busy
    b.node.discard(again.transaction)
    b.node.claim("a push to fw1")
    with pytest.raises(Busy, match="a push to fw1"):
        b.node.open(asked)
    b.node.release()


def test_a_push_that_failed_in_spite_of_the_guard_leaves_the_guard(tmp_path: Path) -> None:
    a = Side(tmp_path / "fw1", "fw1", TWO)
    apply = f'apply = ["sh", "-c", "! grep -q bad {tmp_path}/fw2/tree/etc/rules.conf"]\n[[section]]\nid = "other"'
    b = Side(tmp_path / "fw2", "fw2", TWO.replace('[[section]]\nid = "other"', apply))
    a.write("/etc/rules.conf", "good\n")
    assert push(a, b, ["rules"]).result == "applied"
    b.write("/etc/rules.conf", "by hand\n")
    a.write("/etc/rules.conf", "bad\n")
    assert push(a, b, ["rules"], overrides=["changed-there"]).result == "undone"
    a.write("/etc/rules.conf", "good again\n")
    with pytest.raises(Guarded, match="rules changed on fw2 itself"):
        push(a, b, ["rules"])
    assert push(a, b, ["rules"], overrides=["changed-there"]).result == "applied"
    assert not b.node.overview(["rules"])[0].changed


def test_a_path_that_a_section_gets_or_loses_is_no_change_by_the_peer(tmp_path: Path) -> None:
    narrow = TWO.partition('[[section]]\nid = "other"')[0]
    wide = narrow.replace('conf"]', 'conf", "/etc/extra"]')
    a, b = (Side(tmp_path / name, name, narrow) for name in ("fw1", "fw2"))
    a.write("/etc/rules.conf", "x\n")
    for side in (a, b):
        side.write("/etc/extra", f"{side.name}\n")
    push(a, b, ["rules"])
    for text in (wide, narrow):
        for side in (a, b):
            side.write_settings(text)
        assert not b.node.overview(["rules"])[0].changed
        assert push(a, b, ["rules"]).result == "applied" if text is wide else True
    b.write_settings(wide)
    b.write("/etc/rules.conf", "by hand\n")
    assert b.node.overview(["rules"])[0].changed
