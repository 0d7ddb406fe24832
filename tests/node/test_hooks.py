"""Hooks: their order against a model, and real processes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import Struct
from msgspec.structs import replace

from hacore.node.commands import Result, Runner
from hacore.node.event import Event
from hacore.node.hooks import AT_ONCE, Hooks, epochs_of
from hacore.node.loop import Loop
from hacore.node.settings import Hook, State

LIMIT = 30.0
STATES: tuple[State, ...] = ("INIT", "BACKUP", "MASTER")


def make(
    name: str, command: tuple[str, ...] = ("true",), on: tuple[State, ...] = STATES, timeout: float = 60.0
) -> Hook:
    return Hook(name=name, command=command, on=on, timeout=timeout)


class Said(Struct, kw_only=True):
    kind: str
    text: str
    vip: str
    fields: dict[str, Any]


class Recorder:
    def __init__(self) -> None:
        self.events: list[Said] = []

    def __call__(self, kind: str, text: str, *, vip: str = "", at: float | None = None, **fields: Any) -> None:
        self.events.append(Said(kind=kind, text=text, vip=vip, fields=fields))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def said() -> Recorder:
    return Recorder()


@pytest.fixture
def hooks(loop: Loop, said: Recorder) -> Iterator[Hooks]:
    runner = Runner(loop)
    yield Hooks(runner, said, "fw1")
    runner.cancel_all()
    turn(loop, lambda: runner.idle)


def turn(loop: Loop, until: Callable[[], bool]) -> None:
    end = loop.now() + LIMIT
    while not until():
        assert loop.now() < end, "nothing happened"
        loop.run_once(0.05)


def move(hooks: Hooks, before: str, after: str, vip: str = "lan", reason: str = "master timed out") -> int:
    moved = hooks.transition(vip, interface="eth0", vhid=1, before=before, after=after, reason=reason, at=1234.5)
    return moved.epoch


def test_a_hook_is_given_the_transition_twice(loop: Loop, said: Recorder, hooks: Hooks, tmp_path: Path) -> None:
    script = f"env | grep ^HACORE_ > {tmp_path}/environment; cat > {tmp_path}/stdin"
    hooks.load([make(name="announce", command=("sh", "-c", script))])
    move(hooks, "BACKUP", "MASTER", reason='preempting "a" slower\nmaster')
    turn(loop, lambda: hooks.idle)
    expected = {
        "node": "fw1",
        "vip": "lan",
        "interface": "eth0",
        "vhid": 1,
        "from": "BACKUP",
        "to": "MASTER",
        "reason": 'preempting "a" slower\nmaster',
        "at": 1234.5,
        "epoch": 1,
    }
    assert json.loads((tmp_path / "stdin").read_text()) == expected
    environment = (tmp_path / "environment").read_text()
    for name, value in expected.items():
        assert f"HACORE_{name.upper()}={str(value).splitlines()[0]}\n" in environment
    assert said.kinds() == ["hook-done"]


def test_only_the_states_asked_for_run(loop: Loop, hooks: Hooks, tmp_path: Path) -> None:
    hooks.load([make(name="stop", on=("BACKUP", "INIT"), command=("sh", "-c", f"echo $HACORE_TO >> {tmp_path}/ran"))])
    for before, after in (("INIT", "BACKUP"), ("BACKUP", "MASTER"), ("MASTER", "INIT")):
        move(hooks, before, after)
        turn(loop, lambda: hooks.idle)
    assert (tmp_path / "ran").read_text().split() == ["BACKUP", "INIT"]


def test_failures_are_events_with_exit_code_and_output(loop: Loop, said: Recorder, hooks: Hooks) -> None:
    hooks.load(
        [
            make(name="bad", command=("sh", "-c", "echo it broke >&2; exit 9")),
            make(name="slow", command=("sleep", "1000"), timeout=0.2),
            make(name="missing", command=("/no/such/hook",)),
            make(name="good"),
        ]
    )
    move(hooks, "BACKUP", "MASTER")
    turn(loop, lambda: hooks.idle)
    assert said.kinds() == ["hook-failed", "hook-failed", "hook-failed", "hook-done"]
    bad, slow, missing, _ = said.events
    assert bad.text == "hook bad for BACKUP -> MASTER (epoch 1) failed: exit code 9"
    assert bad.vip == "lan"
    assert bad.fields["exit_code"] == 9
    assert bad.fields["output"] == "it broke\n"
    assert slow.fields["timed_out"] is True
    assert slow.text.endswith("time is up, killed by SIGTERM")
    assert "cannot start /no/such/hook" in missing.text


def test_a_stale_stop_never_overtakes_a_newer_start(loop: Loop, said: Recorder, hooks: Hooks, tmp_path: Path) -> None:
    log = tmp_path / "log"
    gate = tmp_path / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.02; done; echo $HACORE_TO$HACORE_EPOCH >> {log}"
    hooks.load(
        [
            make(name="start", on=("MASTER",), command=("sh", "-c", wait)),
            make(name="stop", on=("BACKUP",), command=("sh", "-c", wait)),
        ]
    )
    for _ in range(5):
        move(hooks, "BACKUP", "MASTER")
        move(hooks, "MASTER", "BACKUP")
    move(hooks, "BACKUP", "MASTER")
    gate.touch()
    turn(loop, lambda: hooks.idle)
    assert log.read_text().split() == ["MASTER1", "BACKUP10", "MASTER11"]
    skipped = [event for event in said.events if event.kind == "hook-skipped"]
    assert len(skipped) == 8
    assert skipped[0].text == "hook stop for MASTER -> BACKUP (epoch 2) skipped: superseded by epoch 4 (BACKUP)"


def test_vips_do_not_wait_for_each_other(loop: Loop, hooks: Hooks, tmp_path: Path) -> None:
    hooks.load(
        [make(name="hook", command=("sh", "-c", f"[ $HACORE_VIP = wan ] || exec sleep 1000; touch {tmp_path}/ran"))]
    )
    move(hooks, "BACKUP", "MASTER", vip="lan")
    move(hooks, "BACKUP", "MASTER", vip="wan")
    turn(loop, (tmp_path / "ran").exists)


def test_a_reload_takes_what_waits_with_it(loop: Loop, said: Recorder, hooks: Hooks, tmp_path: Path) -> None:
    first, second, third = (
        make(name=name, command=("sh", "-c", f"echo {name} >> {tmp_path}/log")) for name in ("first", "second", "third")
    )
    hooks.load([first, second, third])
    move(hooks, "BACKUP", "MASTER")
    hooks.load([first, replace(third, command=("sh", "-c", f"echo changed >> {tmp_path}/log"))])
    turn(loop, lambda: hooks.idle)
    assert (tmp_path / "log").read_text().split() == ["first", "changed"]
    assert said.events[0].text.endswith("skipped: the settings have it no more")


def test_stopping_leaves_what_runs_and_skips_what_waits(loop: Loop, said: Recorder, hooks: Hooks) -> None:
    hooks.load([make(name="a"), make(name="b")])
    move(hooks, "BACKUP", "MASTER")
    hooks.stop()
    assert move(hooks, "MASTER", "INIT") == 2
    turn(loop, lambda: hooks.idle)
    assert said.kinds() == ["hook-skipped", "hook-done"]


def test_epochs_go_on_from_the_history(loop: Loop, said: Recorder) -> None:
    def event(vip: str, **fields: Any) -> Event:
        return Event(seq=1, boot="b", time=0.0, node="fw1", kind="transition", vip=vip, fields=fields)

    events = [event("lan", epoch=41), event("lan", epoch=40), event("wan", epoch=7), event("", epoch=99), event("dmz")]
    epochs = epochs_of(events)
    assert epochs == {"lan": 41, "wan": 7}
    hooks = Hooks(Runner(loop), said, "fw1", epochs)
    assert [move(hooks, "INIT", "BACKUP", vip=vip) for vip in ("lan", "lan", "wan", "dmz")] == [42, 43, 8, 1]


class Asked(Struct):
    """One command that the hooks asked the runner for."""

    name: str
    vip: str
    epoch: int
    done: Callable[[Result, float], None]


class Paper:
    """A runner on which the test says when a command ends."""

    def __init__(self) -> None:
        self.running: deque[Asked] = deque()
        self.started: list[Asked] = []

    def run(
        self,
        argv: Sequence[str],
        done: Callable[[Result, float], None],
        *,
        timeout: float,
        variables: Mapping[str, str],
        stdin: bytes,
    ) -> object:
        asked = Asked(argv[0], variables["HACORE_VIP"], int(variables["HACORE_EPOCH"]), done)
        self.running.append(asked)
        self.started.append(asked)
        return asked


class HookOrder(RuleBasedStateMachine):
    """Whatever comes and whenever hooks end: in order, one at a time, and each runs for the last state it asked for."""

    vips = tuple(f"vip{number}" for number in range(AT_ONCE + 4))

    @initialize(
        tables=st.lists(st.sets(st.sampled_from(STATES), min_size=1), min_size=1, max_size=4),
    )
    def begin(self, tables: list[set[State]]) -> None:
        self.paper = Paper()
        self.said = Recorder()
        self.hooks = Hooks(self.paper, self.said, "fw1")  # type: ignore[arg-type]
        self.settings = [make(name=str(i), command=(str(i),), on=tuple(on)) for i, on in enumerate(tables)]
        self.hooks.load(self.settings)
        self.states = dict.fromkeys(self.vips, "INIT")
        self.epochs = dict.fromkeys(self.vips, 0)
        #: (vip, hook) -> epochs of the transitions that it asked for.
        self.due: dict[tuple[str, str], list[int]] = {}
        self.most = 0

    @rule(vip=st.integers(0, 2) | st.integers(0, AT_ONCE + 3), after=st.sampled_from(STATES))
    def transition(self, vip: int, after: str) -> None:
        name = self.vips[vip]
        epoch = move(self.hooks, self.states[name], after, vip=name)
        self.states[name] = after
        self.epochs[name] += 1
        assert epoch == self.epochs[name]
        for hook in self.settings:
            if after in hook.on:
                self.due.setdefault((name, hook.name), []).append(epoch)

    @rule(which=st.integers(0, AT_ONCE), exit_code=st.sampled_from([0, 1]))
    def end_one(self, which: int, exit_code: int) -> None:
        if self.paper.running:
            self.paper.running.rotate(-which)
            self.paper.running.popleft().done(Result(exit_code=exit_code), 0.0)

    @invariant()
    def one_at_a_time(self) -> None:
        if hasattr(self, "paper"):
            vips = [asked.vip for asked in self.paper.running]
            assert len(vips) == len(set(vips)) <= AT_ONCE

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "hooks"):
            assert all(len(queue.waiting) <= len(self.settings) for queue in self.hooks._queues.values())

    @invariant()
    def in_order(self) -> None:
        if hasattr(self, "paper"):
            seen: dict[str, tuple[int, int]] = {}
            for asked in self.paper.started:
                position = (asked.epoch, int(asked.name))
                assert seen.get(asked.vip, (0, 0)) < position
                seen[asked.vip] = position

    def teardown(self) -> None:
        if not hasattr(self, "hooks"):
            return
        while self.paper.running:
            self.end_one(0, 0)
            self.one_at_a_time()
        self.in_order()
        assert self.hooks.idle
        ran: dict[tuple[str, str], list[int]] = {}
        for asked in self.paper.started:
            ran.setdefault((asked.vip, asked.name), []).append(asked.epoch)
        skipped: dict[tuple[str, str], list[int]] = {}
        for event in self.said.events:
            if event.kind == "hook-skipped":
                skipped.setdefault((event.vip, event.fields["hook"]), []).append(event.fields["epoch"])
        for key, epochs in self.due.items():
            assert ran[key][-1] == epochs[-1], "the last state that a hook asked for"
            assert sorted(ran[key] + skipped.get(key, [])) == epochs, "each is run or said to be skipped, once"
        assert set(ran) == set(self.due)


TestHookOrder = HookOrder.TestCase
TestHookOrder.settings = hypothesis_settings(max_examples=150, stateful_step_count=60, deadline=None)
