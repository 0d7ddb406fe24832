"""A push between two directory trees: what arrives, what is refused, what is put back, what is remembered."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hacore.configsync.manifest import BadManifest, Entry, Manifest
from hacore.errors import WireError
from hacore.node.config_install import Installer
from hacore.node.config_lock import Busy
from hacore.node.config_node import Guarded
from tests.node.config_pair import VIP, Side, push, request, sending

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    sides = (
        Side(tmp_path / "a", "fw1", SECTION + VIP.format(advskew=0)),
        Side(tmp_path / "b", "fw2", SECTION + VIP.format(advskew=100)),
    )
    yield sides
    for side in sides:
        side.node.close()


def fill(side: Side) -> None:
    side.write("/etc/rules.conf", "accept all\n", 0o600)
    side.write("/etc/rules.d/10-a.conf", "one\n")
    side.write("/etc/rules.d/deep/er/b.conf", "two\n", 0o755)
    (side.tree / "etc/rules.d/empty").mkdir()
    os.symlink("10-a.conf", side.tree / "etc/rules.d/link")


def test_everything_of_a_section_arrives(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    os.chown(a.tree / "etc/rules.d/10-a.conf", 1, 4242)
    b.write("/etc/rules.d/stale.conf", "goes")
    b.write("/etc/rules.d/10-a.conf/was-a-folder", "goes too")
    b.write("/etc/rules.d/deep", "was a file")
    outcome = push(a, b, ["rules"])
    assert outcome.result == "applied", outcome
    assert b.picture() == a.picture()
    assert outcome.revision == 2
    assert [each.kind for each in b.node.parts.revisions.all()] == ["found", "push"]
    assert b.node.overview(["rules"])[0].digest == a.node.overview(["rules"])[0].digest == outcome.sections["rules"]


def test_a_second_push_has_nothing_to_do(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    push(a, b, ["rules"])
    assert request(a, b, ["rules"]).sections == []
    a.write("/etc/rules.conf", "other\n", 0o600)
    asked = request(a, b, ["rules"])
    opened = b.node.open(asked)
    assert list(opened.lacking.values()) == [6]
    b.node.discard(opened.transaction)


def test_rights_alone(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    push(a, b, ["rules"])
    (a.tree / "etc/rules.conf").chmod(0o640)
    (a.tree / "etc/rules.d/empty").chmod(0o700)
    assert push(a, b, ["rules"]).result == "applied"
    assert b.picture() == a.picture()


def test_a_section_that_is_gone_goes(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(b)
    outcome = push(a, b, ["rules"])
    assert outcome.result == "applied"
    assert not (b.tree / "etc/rules.d").exists()
    back = b.node.roll_back(1, lambda _: None, by="admin")
    assert back.result == "applied"
    assert b.read("/etc/rules.d/deep/er/b.conf") == "two\n"


def commands(side: Side, check: list[str] | None = None, apply: list[str] | None = None, services: str = "") -> None:
    keys = [f"{name} = {value!r}" for name, value in (("check", check), ("apply", apply)) if value]
    side.write_settings(SECTION + "\n".join(keys) + "\n" + services + VIP.format(advskew=100))


def test_a_check_sees_the_new_files_and_nothing_has_changed_when_it_fails(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    b.write("/etc/rules.conf", "before\n")
    commands(b, check=["sh", "-c", "cat {root}/etc/rules.conf {root}/etc/rules.d/link; exit 3"])
    before = b.picture()
    outcome = push(a, b, ["rules"])
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert outcome.failure.code == "check-failed"
    assert outcome.failure.output == "accept all\none"
    assert "exit code 3" in outcome.failure.message
    assert b.picture() == before
    assert b.node.parts.revisions.all() == []
    assert b.node.busy == ""
    assert not (b.directory / "state/config/staged").exists()


def test_a_dry_run_checks_and_changes_nothing(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, check=["test", "-e", "{root}/etc/rules.conf"], apply=["false"])
    assert push(a, b, ["rules"], dry_run=True).result == "checked"
    assert b.picture() == {}


def test_an_apply_command_that_fails_puts_everything_back(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    fill(b)
    b.write("/etc/rules.conf", "before\n")
    log = b.directory / "log"
    script = (
        f"cat {b.tree}/etc/rules.conf >> {log}; grep -q before {b.tree}/etc/rules.conf || (echo no such rule; false)"
    )
    commands(b, apply=["sh", "-c", script])
    before = b.picture()
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.output) == ("apply-failed", "no such rule")
    assert outcome.failure.command[0] == "sh"
    assert b.picture() == before
    assert log.read_text() == "accept all\nbefore\n"  # the old state was applied again
    assert "undone" in b.history[-1]
    assert "no such rule" in b.history[-1]


SERVICES = """
services = ["one", "two"]
[[service]]
id = "two"
unit = "two.service"
[[service]]
id = "one"
unit = "one.service"
"""


def test_services_of_changed_sections_restart_in_the_order_of_the_settings(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, services=SERVICES)
    assert push(a, b, ["rules"]).services == {"two": "restarted", "one": "restarted"}
    assert b.restarted == [["two"], ["one"]]
    a.write("/etc/rules.conf", "more\n")
    push(a, b, ["rules"], restart="none")
    push(a, b, ["rules"], restart="changed")
    assert b.restarted == [["two"], ["one"]]
    outcome = push(a, b, ["rules"], restart="all")
    assert outcome.result == "unchanged"
    assert b.restarted == [["two"], ["one"]] * 2


def test_a_service_that_does_not_restart_undoes_the_push(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, services=SERVICES)
    b.running = {"one": None, "two": None}
    b.failing_services = {"one": "exit-code"}
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert outcome.undo == ["one: exit-code"]  # it does not start with the old files either
    assert not (b.tree / "etc/rules.conf").exists()
    assert b.restarted == [["two"], ["one"], ["two", "one"]]


def test_a_service_that_the_settings_lack_is_told(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, services='services = ["ghost"]')
    outcome = push(a, b, ["rules"])
    assert outcome.result == "applied"
    assert "ghost" in outcome.notes[0]
    assert b.restarted == []


# Guards


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


# What no peer may send


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
    from hacore.configsync.stream import head
    from hacore.node.config_store import StoreError

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


# Templates

TEMPLATES = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
templates = ["/etc/rules.conf", "/etc/rules.d/own.template"]
[node.variables]
address = "{address}"
"""


def test_templates_are_resolved_where_they_arrive(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write_settings(TEMPLATES.format(address="192.0.2.11"))
    b.write_settings(TEMPLATES.format(address="192.0.2.12"))
    a.write("/etc/rules.conf", "from {{ address }} to {{address}}\n")
    a.write("/etc/rules.d/own.template", "listen {{ address }}\n", 0o640)
    a.write("/etc/rules.d/own", "listen 192.0.2.11\n")
    assert push(a, b).result == "applied"
    assert b.read("/etc/rules.conf") == "from 192.0.2.12 to 192.0.2.12\n"
    assert b.read("/etc/rules.d/own") == "listen 192.0.2.12\n"
    assert b.read("/etc/rules.d/own.template") == "listen {{ address }}\n"
    assert request(a, b).sections == []
    # The roles are changed: fw2 sends the templates, not what it made of them.
    assert request(b, a).sections == []
    b.write("/etc/rules.d/own", "by hand\n")
    assert b.node.overview()[0].changed


def test_a_variable_that_is_missing(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write_settings(TEMPLATES.format(address="192.0.2.11"))
    b.write_settings(TEMPLATES.replace("address =", "other =").format(address="1"))
    a.write("/etc/rules.conf", "\nfrom {{ address }}\n")
    outcome = push(a, b)
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert "lack address (line 2)" in outcome.failure.message


# History


def test_history_is_kept_and_can_be_returned_to(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    monkeypatch.setattr("hacore.node.config_revisions.KEPT", 5)
    for number in range(8):
        a.write("/etc/rules.conf", f"version {number}\n")
        assert push(a, b, ["rules"]).result == "applied"
    numbers = [each.number for each in b.node.parts.revisions.all()]
    assert numbers == [5, 6, 7, 8, 9]
    assert b.node.roll_back(6, lambda _: None, by="admin").result == "applied"
    assert b.read("/etc/rules.conf") == "version 4\n"
    assert not b.node.overview()[0].changed
    b.restart()
    assert b.node.roll_back(6, lambda _: None, by="admin").result == "unchanged"
    assert b.node.parts.revisions.all()[-1].kind == "roll-back"
    packs = list(b.node.parts.store.directory.glob("*.pack"))
    assert len(packs) < 10
    for revision in b.node.parts.revisions.all():
        assert b.node.parts.revisions.manifest(revision.sections["rules"].live).section == "rules"


def test_an_apply_command_that_does_not_end(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, apply=[sys.executable, "-c", "import time; time.sleep(100)"])
    b.settings_file.write_text(b.settings_file.read_text().replace("apply =", "timeout = 0.3\napply ="))
    outcome = push(a, b, ["rules"])
    assert outcome.failure is not None
    assert "did not end within 0.3 s" in outcome.failure.message
    assert not (b.tree / "etc/rules.conf").exists()


TWO = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf"]
[[section]]
id = "other"
paths = ["/etc/other"]
"""


def test_what_brought_a_section_is_known_after_its_revision_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hacore.node.config_revisions.KEPT", 3)
    a, b = (Side(tmp_path / name, name, TWO) for name in ("fw1", "fw2"))
    a.write("/etc/other", "0\n")
    number = push(a, b, ["other"]).revision
    for version in range(4):
        a.write("/etc/rules.conf", f"{version}\n")
        push(a, b, ["rules"])
    assert number not in [revision.number for revision in b.node.parts.revisions.all()]
    b.restart()
    b.write("/etc/other", "by hand\n")
    (status,) = b.node.overview(["other"])
    assert (status.revision, status.by, status.changed) == (number, "fw1", True)
    a.write("/etc/other", "1\n")
    with pytest.raises(Guarded, match="other changed on fw2 itself"):
        push(a, b, ["other"])


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
