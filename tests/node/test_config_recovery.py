"""What a worker finds after a crash or a power cut, and does with it: files, what is in force, and what is damaged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hacore.errors import HacoreError
from hacore.node.config_commands import Commands, Ran
from hacore.node.config_install import Installer
from hacore.node.config_lock import Busy
from hacore.node.config_store import Store
from tests.node.config_pair import Side, old_and_new_rules, push, request, sending
from tests.node.power_cut import SECTION, PowerCut, applied, change, cut_at, interrupt, journal, packs


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with old_and_new_rules(tmp_path, SECTION) as sides:
        yield sides


def test_a_power_cut_in_the_swap_is_undone_in_what_the_boot_put_in_force(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    (b.directory / "applied").write_text(b.read("/etc/rules.conf"))  # so does a service that starts before hacore
    assert applied(b) == "new\n"
    assert b.node.recover() == []
    assert (b.read("/etc/rules.conf"), applied(b)) == ("old\n", "old\n")
    assert b.restarted == [["one"]]
    assert not journal(b).exists()


def test_services_that_a_push_left_alone_have_started_with_its_files(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    cut_at(monkeypatch, Commands, "run", after=True)
    change(b, "check =", "#")
    with pytest.raises(PowerCut):
        push(a, b, ["rules"], restart="none")
    record = json.loads(journal(b).read_bytes())
    assert (record["step"], record["services"]) == ("applying", [])
    journal(b).write_text(json.dumps(record | {"boot": "another"}))
    b.restart()
    assert b.node.recover() == []
    assert (applied(b), b.restarted) == ("old\n", [["one"]])


def test_a_recovery_that_the_power_cuts_short_is_one_after_a_boot_still(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    (b.directory / "applied").write_text("new\n")
    cut_at(monkeypatch, Installer, "clean")
    with pytest.raises(PowerCut):
        b.node.recover()
    b.restart()
    assert b.node.recover() == []
    assert (applied(b), b.restarted) == ("old\n", [["one"]])


def test_a_worker_that_was_killed_in_the_swap_has_put_nothing_in_force(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    b = pair[1]
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=False)
    (b.directory / "applied").write_text("not touched\n")
    assert b.node.recover() == []
    assert (b.read("/etc/rules.conf"), applied(b), b.restarted) == ("old\n", "not touched\n", [])


def test_nothing_is_claimed_while_a_recovery_runs_or_is_due(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    asked = request(a, b, ["rules"])
    claims: list[Callable[[], object]] = [lambda: b.node.open(asked), lambda: b.node.claim("a push to fw1")]
    for claim in claims:
        with pytest.raises(Busy, match="fw2 has to put back what an interrupted push replaced"):
            claim()
    runs, go_on = threading.Event(), threading.Event()
    commands: list[str] = []
    real = Commands.run

    def run(self: Commands, *arguments: Any) -> Ran:
        commands.append(threading.current_thread().name)
        runs.set()
        go_on.wait()
        return real(self, *arguments)

    monkeypatch.setattr(Commands, "run", run)
    thread = threading.Thread(target=b.node.recover, name="recovery")
    thread.start()
    runs.wait()
    try:
        for claim in [*claims, b.node.recover]:
            with pytest.raises(Busy, match="fw2 is busy: puts back what an interrupted push replaced"):
                claim()
    finally:
        go_on.set()
        thread.join()
    assert commands == ["recovery"]
    assert (applied(b), len(b.history), b.node.busy) == ("old\n", 1, "")
    b.node.claim("a push to fw1")
    b.node.release()


def test_what_cannot_be_put_back_is_tried_again_and_told_once(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=True)
    with monkeypatch.context() as patch:
        patch.setattr(Installer, "install", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert b.node.recover() == b.node.recover() == ["rules: [Errno 5] Input/output error"]
    assert len(b.history) == 1
    assert "could not be undone" in b.history[0]
    with pytest.raises(Busy, match=r"interrupted push replaced: rules: .*Input/output error"):
        b.node.open(request(a, b, ["rules"]))
    assert b.node.recover() == []
    assert b.read("/etc/rules.conf") == "old\n"
    assert "is undone" in b.history[1]


def test_undoing_reads_back(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    keep = Store.keep

    def damage(store: Store) -> None:
        keep(store)
        for path in store.directory.glob("*.pack"):
            path.write_bytes(path.read_bytes().replace(b"old\n", b"OLD\n"))

    monkeypatch.setattr(Store, "keep", damage)
    change(b, '["cp"', '["false", "cp"')
    outcome = push(a, b, ["rules"])
    assert outcome.result == "broken"
    assert "rules" in outcome.undo[0]
    assert "/etc/rules.conf" in outcome.undo[0] or "damaged" in outcome.undo[0]
    assert b.node.unfinished


def test_what_somebody_made_during_a_push_outlives_its_undoing(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write("/etc/rules.d/new/one", "1")
    b.write("/etc/rules.d/there", "2")
    late = [b.tree / "etc/rules.d/late", b.tree / "etc/rules.d/new/late"]
    script = f"echo precious | tee {late[0]} > {late[1]}; exit 1"
    b.write_settings(
        b.settings_file.read_text()
        .partition("\n\n")[2]
        .replace('["cp"', f'["sh", "-c", "[ -e {late[0]} ] || {{ {script}; }}", "cp"')
    )
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert [path.read_text() for path in late] == ["precious\n"] * 2
    assert outcome.undo == [
        f"/etc/rules.d/{name} is left as it is: somebody made it meanwhile" for name in ("late", "new/late")
    ]
    assert b.read("/etc/rules.conf") == "old\n"
    assert not (b.tree / "etc/rules.d/new/one").exists()


def test_nothing_is_left_over(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    a.write("/etc/rules.d/large", b"x" * 100_000)
    cut_at(monkeypatch, Commands, "run")
    interrupt(pair, another_boot=False)
    staged = b.directory / "state/config/staged"
    assert (staged / "etc/rules.d/large").exists()
    assert b.node.recover() == []
    assert not staged.exists()
    cut_at(monkeypatch, Installer, "install", after=True)
    interrupt(pair, another_boot=False)
    assert b.node.recover() == []
    change(b, '["cp"', '["false", "cp"')
    assert push(a, b, ["rules"]).result == "undone"
    assert sum(path.stat().st_size for path in (b.directory / "state/config/packs").iterdir()) < 10_000


def test_a_sender_that_vanishes(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    prepared = sending(a, b, ["rules"])
    opened = b.node.open(prepared.request())
    for piece in prepared.stream(opened.lacking):
        b.node.take(opened.transaction, piece)
    b.node.discard_idle()
    assert b.node.busy == "fw1 pushes rules"
    monkeypatch.setattr("hacore.node.config_node.IDLE_LIMIT", -1.0)
    b.node.discard_idle()
    assert (b.node.busy, packs(b)) == ("", [])


# Damage


def test_a_damaged_journal_is_an_error_with_its_path(pair: tuple[Side, Side]) -> None:
    b = pair[1]
    b.node.close()
    journal(b).write_bytes(b"")
    with pytest.raises(HacoreError, match=r"journal\.json is damaged .* then remove it"):
        b.start()
    journal(b).unlink()
    b.node = b.start()  # the lock is free


@pytest.mark.parametrize("lost", ["index", "pack", "end"])
def test_a_pack_that_is_lost_is_told_and_what_it_had_is_taken_anew(pair: tuple[Side, Side], lost: str) -> None:
    a, b = pair
    push(a, b, ["rules"])
    b.node.close()
    for path in (b.directory / "state/config/packs").iterdir():
        if lost == "index" and path.suffix == ".index":
            path.write_bytes(b"")
        elif lost == "pack" and path.suffix == ".pack":
            path.unlink()
        elif lost == "end" and path.suffix == ".pack":
            path.write_bytes(path.read_bytes()[:1])
    b.node = b.start()
    assert ("is cut off" if lost == "end" else "is lost") in b.node.damage[0]
    assert b.node.overview(["rules"])[0].problem == ""
    a.write("/etc/rules.conf", "newer\n")
    change(b, '["cp"', '["false", "cp"')
    assert push(a, b, ["rules"]).result == "undone"
    assert b.read("/etc/rules.conf") == "new\n"


def test_a_damaged_revision_is_told_and_its_number_is_not_given_away(pair: tuple[Side, Side]) -> None:
    a, b = pair
    push(a, b, ["rules"])
    file = b.directory / "state/config/revisions/000002.json"
    file.write_bytes(b"{")
    b.restart()
    assert b.node.damage[0].startswith(f"{file} is damaged: ")
    a.write("/etc/rules.conf", "newer\n")
    assert push(a, b, ["rules"]).revision == 4
    assert file.read_bytes() == b"{"
