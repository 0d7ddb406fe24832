"""Health checks: real commands that succeed, fail and hang at the test's word."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hacore.node.checks import Checks
from hacore.node.commands import Runner
from hacore.node.loop import Loop
from hacore.node.settings import Check
from hacore.node.snapshot import CheckStatus

LIMIT = 30.0
INTERVAL = 0.02


def make(command: tuple[str, ...], name: str = "upstream", **others: Any) -> Check:
    return Check(name=name, command=command, **{"interval": INTERVAL, "timeout": 10.0, **others})


class Node:
    """The checks of a node, and what they said and asked for; the command of a check does what the file `does` says."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop(self._fail)
        self.runner = Runner(self.loop)
        self.events: list[tuple[str, str]] = []
        self.demotions: dict[str, int] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.checks = Checks(self.loop, self.runner, self._emit, demote=self._demote, undemote=self._undemote)
        self.does = directory / "does"
        self.runs = directory / "runs"
        self.say("true")
        self.runs.touch()
        self.command = ("sh", "-c", f"echo $$ >> {self.runs}; . {self.does}")

    def say(self, script: str) -> None:
        new = self.does.with_suffix(".new")
        new.write_text(script + "\n")
        new.rename(self.does)

    def _fail(self, where: str, error: Exception) -> None:
        raise AssertionError(where) from error

    def _emit(self, kind: str, text: str, *, vip: str = "", at: float | None = None, **fields: Any) -> None:
        self.events.append((kind, text))

    def _demote(self, reason: str, value: int) -> None:
        assert reason not in self.demotions
        self.requests.append(("add", reason, value))
        self.demotions[reason] = value

    def _undemote(self, reason: str) -> None:
        self.requests.append(("remove", reason, self.demotions.pop(reason)))

    def turn(self, until: Callable[[], bool]) -> None:
        end = self.loop.now() + LIMIT
        while not until():
            assert self.loop.now() < end, (self.events, self.checks.status())
            self.loop.run_once(0.05)

    def until(self, state: str) -> CheckStatus:
        self.turn(lambda: self.only().state == state)
        return self.only()

    def only(self) -> CheckStatus:
        (status,) = self.checks.status()
        return status

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.checks.close()
    node.runner.cancel_all()
    node.turn(lambda: node.runner.idle)
    node.loop.close()


def test_starts_unknown_then_passes(node: Node) -> None:
    node.checks.load([make(node.command)])
    status = node.only()
    assert (status.state, status.runs, status.demotion, status.finding) == ("unknown", 0, 0, "")
    assert node.kinds() == ["check-unknown"]
    status = node.until("up")
    assert status.successes == 2
    assert status.finding == "exit code 0"
    assert node.requests == []


def test_falls_and_rises(node: Node) -> None:
    node.say("echo no way; exit 7")
    node.checks.load([make(node.command)])
    status = node.until("down")
    assert (status.failures, status.demotion, status.finding) == (3, 240, "exit code 7")
    assert node.requests == [("add", "check upstream", 240)]
    assert node.checks.demotions() == {"check upstream": 240}
    assert node.events[-1] == (
        "check-failing",
        "check upstream fails: exit code 7 (3 in a row), demotion 240",
    )
    node.say("true")
    status = node.until("up")
    assert node.requests[1:] == [("remove", "check upstream", 240)]
    assert node.demotions == node.checks.demotions() == {}
    assert status.demotion == 0


def test_fewer_failures_than_fall_change_nothing(node: Node) -> None:
    """Two failures, one success, for ever: never three in a row."""
    node.say(f"test $(( $(wc -l < {node.runs}) % 3 )) = 0")
    node.checks.load([make(node.command, rise=1)])
    node.turn(lambda: node.only().runs > 12)
    assert node.only().state == "up"
    assert node.requests == []


def test_a_command_that_cannot_start_fails(node: Node) -> None:
    node.checks.load([make(("/no/such/check",), fall=1)])
    assert node.until("down").finding == "cannot start /no/such/check: No such file or directory"


def test_overrunning_the_timeout_is_a_failure_and_the_late_result_only_counted(node: Node) -> None:
    node.say("trap 'exit 0' TERM; while :; do sleep 0.02; done")
    node.checks.load([make(node.command, timeout=0.1, fall=2, rise=1)])
    node.until("down")
    node.turn(lambda: node.only().late >= 2)
    status = node.only()
    assert status.state == "down"
    assert status.successes == 0


def test_a_check_that_takes_its_whole_interval_fails(node: Node) -> None:
    node.say("exec sleep 1000")
    node.checks.load([make(node.command, timeout=0.1, interval=0.1, fall=2)])
    node.until("down")
    assert node.only().finding in ("time is up", "its process does not end")


def test_a_check_never_runs_twice_at_once(node: Node) -> None:
    node.say("trap '' TERM; sleep 0.3")
    node.checks.load([make(node.command, timeout=0.05, fall=1)])
    most = 0

    def several() -> bool:
        nonlocal most
        alive = sum(is_alive(int(pid)) for pid in node.runs.read_text().split())
        most = max(most, alive)
        return node.only().runs >= 4

    node.turn(several)
    assert most == 1


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_process_that_does_not_end_goes_on_failing(node: Node) -> None:
    """A stopped process takes no SIGTERM; until SIGKILL comes, each interval counts."""
    node.say("kill -STOP $$")
    node.checks.load([make(node.command, timeout=0.05, fall=5)])
    status = node.until("down")
    assert status.finding == "its process does not end"
    assert status.runs == 1


def test_unchanged_checks_keep_their_state_on_reload(node: Node) -> None:
    node.say("false")
    first = make(node.command)
    other = make(("true",), name="other")
    node.checks.load([first, other])
    node.turn(lambda: [status.state for status in node.checks.status()] == ["down", "up"])
    before = list(node.requests)
    node.checks.load([other, first])
    assert [(status.name, status.state) for status in node.checks.status()] == [
        ("other", "up"),
        ("upstream", "down"),
    ]
    assert node.requests == before
    node.checks.load([replace(first, demotion=100, interval=0.05), other])
    assert node.demotions == {"check upstream": 100}
    assert node.checks.status()[0].state == "down"


def test_changed_and_removed_checks_demote_no_more(node: Node) -> None:
    node.say("false")
    settings = make(node.command, fall=1)
    node.checks.load([settings])
    node.until("down")
    node.checks.load([replace(settings, command=("true",))])
    assert node.only().state == "unknown"
    assert node.demotions == {}
    node.until("up")
    node.checks.load([settings])
    node.until("down")
    node.checks.load([])
    assert node.demotions == {}
    node.turn(lambda: node.runner.idle)


def test_a_run_of_a_removed_check_is_stopped_and_its_result_forgotten(node: Node) -> None:
    node.say("exec sleep 1000")
    node.checks.load([make(node.command, fall=1)])
    node.turn(lambda: bool(node.runs.read_text()))
    node.checks.load([])
    node.turn(lambda: node.runner.idle)
    assert node.kinds() == ["check-unknown"]
    (pid,) = map(int, node.runs.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_closing_keeps_the_demotion(node: Node) -> None:
    node.say("false")
    node.checks.load([make(node.command, fall=1)])
    node.until("down")
    node.checks.close()
    assert node.demotions == {"check upstream": 240}
