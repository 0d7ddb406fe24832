"""A push between two directory trees: what arrives, what is checked, applied and restarted, what is put back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.config_pair import Side, push, request
from tests.node.rules_pair import commands, fill, rules_pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from rules_pair(tmp_path)


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


def test_an_apply_command_that_does_not_end(pair: tuple[Side, Side]) -> None:
    a, b = pair
    fill(a)
    commands(b, apply=[sys.executable, "-c", "import time; time.sleep(100)"])
    b.settings_file.write_text(b.settings_file.read_text().replace("apply =", "timeout = 0.3\napply ="))
    outcome = push(a, b, ["rules"])
    assert outcome.failure is not None
    assert "did not end within 0.3 s" in outcome.failure.message
    assert not (b.tree / "etc/rules.conf").exists()
