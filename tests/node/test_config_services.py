"""The services of a push that is undone: those that ran before run, those that did not are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.configsync.plan import Step
from tests.node.config_pair import Side, old_and_new_rules, push
from tests.node.power_cut import PowerCut, set_boot

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf"]
services = ["one", "two", "bad"]
[[service]]
id = "one"
unit = "one.service"
[[service]]
id = "two"
unit = "two.service"
[[service]]
id = "bad"
unit = "bad.service"
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with old_and_new_rules(tmp_path, SECTION) as sides:
        yield sides


@pytest.fixture
def a(pair: tuple[Side, Side]) -> Side:
    return pair[0]


@pytest.fixture
def b(pair: tuple[Side, Side]) -> Side:
    """Two of its services run."""
    pair[1].running = {"two": None, "bad": None}
    return pair[1]


def cut(a: Side, b: Side, step: Step) -> None:
    """The worker of fw2 dies when this step is written; the next one has started."""

    def written(one: Step) -> None:
        if one == step:
            raise PowerCut

    b.node.parts.journal._written = written
    with pytest.raises(PowerCut):
        push(a, b, ["rules"])
    b.restart()


def test_a_restart_that_fails_stops_what_the_push_started(a: Side, b: Side) -> None:
    b.failing_services = {"bad": "does not start"}
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert b.restarted == [["one"], ["two"], ["bad"], ["two", "bad"]]
    assert (b.stopped, sorted(b.running)) == ([["one"]], ["bad", "two"])


def test_the_same_after_a_crash(a: Side, b: Side) -> None:
    cut(a, b, "verifying")
    assert b.node.recover() == []
    assert b.restarted[-1] == ["two", "bad"]
    assert (b.stopped, sorted(b.running)) == ([["one"]], ["bad", "two"])


def test_a_crash_before_anything_was_restarted(a: Side, b: Side) -> None:
    cut(a, b, "restarting")
    assert b.node.recover() == []
    assert (b.restarted, b.stopped) == ([["two", "bad"]], [])


def test_after_a_power_cut_the_boot_has_said_which_run(a: Side, b: Side) -> None:
    """One that did not run before is left as the boot left it; one that ran before and does not is started."""
    cut(a, b, "verifying")
    set_boot(b, "another")
    b.restart()
    b.running, b.restarted = {"two": None}, []
    assert b.node.recover() == []
    assert (b.restarted, b.stopped) == ([["two", "bad"]], [])


def test_after_a_power_cut_one_that_the_boot_started_with_new_files(a: Side, b: Side) -> None:
    cut(a, b, "applying")
    set_boot(b, "another")
    b.restart()
    b.running = {"one": None, "two": None, "bad": None}
    assert b.node.recover() == []
    assert (b.restarted, b.stopped) == ([["one", "two", "bad"]], [])


def test_services_that_cannot_be_asked_are_restarted(a: Side, b: Side) -> None:
    b.unknown = True
    b.failing_services = {"bad": "does not start"}
    assert push(a, b, ["rules"]).result == "undone"
    assert (b.restarted[-1], b.stopped) == (["one", "two", "bad"], [])
