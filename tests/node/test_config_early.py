"""The early part of a recovery: the files are as before when the boot comes to use them, the node does the rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.configsync.plan import Step
from hacore.errors import PlatformError
from hacore.linux.process import boot_id
from hacore.node import config_install, config_journal
from hacore.node.config_commands import Commands
from hacore.node.config_early import NOTHING, NotPutBack, recover_early
from hacore.node.config_install import Installer
from hacore.node.config_lock import Busy
from hacore.node.config_own import synced_file
from hacore.node.durable import write_durably
from tests.node.config_pair import Side, old_and_new_rules, push
from tests.node.power_cut import SECTION, PowerCut, applied, cut_at, interrupt, journal


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with old_and_new_rules(tmp_path, SECTION) as sides:
        yield sides


def early(side: Side) -> str:
    """Its node does not run."""
    side.node.close()
    return recover_early(side.directory / "state", side.settings, root=str(side.tree))


def boot_of(side: Side) -> str:
    """In which its files were put back."""
    found: str = json.loads(journal(side).read_bytes())["put_back"]["boot"]
    return found


def test_the_boot_finds_the_old_files_and_the_node_does_the_rest(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    (b.directory / "applied").write_text("new\n")
    said = early(b)
    assert said == (
        "the push by fw1 was interrupted while swapping: the files of rules are put back, "
        "and the node does the rest when it starts"
    )
    assert (b.read("/etc/rules.conf"), applied(b), b.history) == ("old\n", "new\n", [])
    assert "put back already" in early(b)
    b.running = {"one": time.monotonic()}  # started with the old files
    b.node = b.start()
    assert b.node.recover() == []
    assert (applied(b), b.restarted, b.stopped) == ("old\n", [], [])
    (told,) = b.history
    assert told.startswith("the push by fw1 was interrupted while swapping, and is undone: this node has revision 1")
    assert told.endswith("; its files were put back before the node started")
    assert not journal(b).exists()
    assert early(b) == NOTHING


def test_a_service_that_started_before_is_restarted(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    b.running = {"one": time.monotonic()}
    early(b)
    b.node = b.start()
    assert b.node.recover() == []
    assert b.restarted == [["one"]]


def test_a_boot_after_that_started_everything_with_the_old_files(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    early(b)
    assert boot_of(b) == boot_id()
    record = json.loads(journal(b).read_bytes())
    record["put_back"]["boot"] = "the one before"
    journal(b).write_text(json.dumps(record))
    assert "put back already" in early(b)
    b.node = b.start()
    assert b.node.recover() == []
    assert (applied(b), b.restarted) == ("old\n", [])


def test_what_somebody_changes_after_that_is_theirs(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    early(b)
    b.write("/etc/rules.conf", "by hand\n")
    b.node = b.start()
    assert b.node.recover() == []
    assert (b.read("/etc/rules.conf"), applied(b)) == ("by hand\n", "by hand\n")


def test_the_settings_that_were_pushed_are_put_back_too(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    for side in pair:
        side.settings_file.write_text(side.settings_file.read_text() + '[[section]]\nid = "vips"\n')
    a.settings_file.write_text(a.settings_file.read_text().replace("192.0.2.1/24", "192.0.2.9/24"))
    cut_at(monkeypatch, Commands, "run", after=False)
    for side in pair:
        side.settings_file.write_text(side.settings_file.read_text().replace("check =", "#"))
    with pytest.raises(PowerCut):
        push(a, b, ["rules", "vips"])
    synced = synced_file(str(b.settings_file))
    assert "192.0.2.9" in synced.read_text()
    assert "the files of rules, vips are put back" in early(b)
    assert not synced.exists()


def test_what_somebody_made_is_told_by_both(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    b.write("/etc/rules.d/late", "precious")
    told = [f"/etc/rules.d{name} is left as it is: somebody made it meanwhile" for name in ("", "/late")]
    assert early(b).splitlines()[1:] == told
    b.node = b.start()
    assert b.node.recover() == told


@pytest.mark.parametrize(("step", "said"), [("opened", "when it was opened"), ("done", "at its end")])
def test_nothing_is_put_back_where_nothing_was_replaced_or_all_is_done(
    pair: tuple[Side, Side], step: Step, said: str
) -> None:
    a, b = pair

    def cut(written: Step) -> None:
        if written == step:
            raise PowerCut

    b.node.parts.journal._written = cut
    with pytest.raises(PowerCut):
        push(a, b, ["rules"])
    before = journal(b).read_bytes()
    assert early(b) == f"the push by fw1 was interrupted {said}: nothing is to be put back"
    assert b.read("/etc/rules.conf") == ("new\n" if step == "done" else "old\n")
    assert journal(b).read_bytes() == before


def test_a_node_that_runs_recovers_by_itself(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    with pytest.raises(Busy, match=r"another process uses .*config: a node runs, and puts back by itself"):
        recover_early(b.directory / "state", b.settings, root=str(b.tree))
    assert b.read("/etc/rules.conf") == "new\n"


def test_no_push_was_ever_taken(tmp_path: Path, pair: tuple[Side, Side]) -> None:
    assert recover_early(tmp_path / "nowhere", pair[1].settings) == NOTHING
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_put_back_is_an_error_and_the_node_tries_again(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    with monkeypatch.context() as patch:
        patch.setattr(Installer, "install", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        with pytest.raises(NotPutBack, match=r"tries again when it starts: rules: .*Read-only file system"):
            early(b)
    b.node = b.start()
    assert b.node.recover() == []
    assert (b.read("/etc/rules.conf"), b.restarted) == ("old\n", [["one"]])


def test_a_damaged_journal_stops_nothing_but_itself(pair: tuple[Side, Side]) -> None:
    journal(pair[1]).write_bytes(b"{")
    with pytest.raises(PlatformError, match=r"journal\.json is damaged"):
        early(pair[1])


def test_what_another_process_put_back_is_flushed_before_the_journal_says_so(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before it flushed; nothing differs any more."""
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    b.write("/etc/rules.conf", "old\n")
    done: list[str] = []

    def syncfs(handle: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{handle}"))

    def write(path: Path, data: bytes, *, mode: int) -> None:
        done.append("put back" if b'"put_back":{' in data else "undoing")
        write_durably(path, data, mode=mode)

    monkeypatch.setattr(config_install, "syncfs", syncfs)
    monkeypatch.setattr(config_journal, "write_durably", write)
    early(b)
    assert (done[0], done[-1]) == ("undoing", "put back")
    assert f"{b.tree}/etc" in done


def test_a_command_of_the_same_boot_is_ended_first(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=False)
    ended: list[str] = []

    def end(_commands: Commands) -> str:
        ended.append("one")
        return "process 1"

    monkeypatch.setattr(Commands, "end_leftover", end)
    early(b)
    assert ended == ["one"]
