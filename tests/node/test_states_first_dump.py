"""Comparisons that fail or are stopped do not count as one, and the next one looks at the whole kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import pytest

from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node.loop import Loop
from hacore.node.states_filter import Filter
from hacore.node.states_reconcile import Reconciler
from hacore.states.layout import Rows
from tests.states.simulation import Node, rows


class Due:
    """A timer."""

    def __init__(self, when: float, callback: Callable[[float], None] | None) -> None:
        self.when, self.callback = when, callback

    def cancel(self) -> None:
        self.callback = None


class Clockwork:
    """A loop without descriptors whose time is what the test says."""

    def __init__(self) -> None:
        self.time = 100.0
        self._timers: list[Due] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[float], None]) -> Due:
        self._timers.append(Due(when, callback))
        return self._timers[-1]

    def call_soon(self, callback: Callable[[float], None]) -> Due:
        return self.call_at(self.time, callback)

    def pass_time(self, end: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Until `end`, or until `unless` holds."""
        while not unless():
            due = min(self._timers, key=lambda timer: timer.when, default=None)
            if due is None or due.when > end:
                self.time = end
                return
            self._timers.remove(due)
            self.time = max(self.time, due.when)
            if due.callback is not None:
                due.callback(self.time)


class Batch(NamedTuple):
    """As `conntrack.dump` gives it."""

    rows: Rows


class Everything:
    """A filter that takes all rows."""

    def wanted(self, found: Rows) -> Any:
        return found["family"] > 0


def test_a_table_is_read_again_until_it_was_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    plays: list[str] = ["fails", "is stopped", "is whole"]
    problems: list[str] = []

    def dump(**_sizes: int) -> Iterator[Batch]:
        play = plays.pop(0)
        yield Batch(rows(range(5)))
        if play == "fails":
            raise PlatformError("the kernel's table was not told")
        yield Batch(rows(range(5, 10)))

    monkeypatch.setattr(conntrack, "dump", dump)
    monkeypatch.setattr(conntrack, "sysctl", lambda _name: 262_144)
    monkeypatch.setattr(conntrack, "fetch", lambda asked: asked)
    loop, node = Clockwork(), Node("a")
    reconciler = Reconciler(
        cast("Loop", loop), node.machine, cast("Callable[[], Filter]", Everything), 30.0, loop.now, lambda: None,
        problems.append,
    )  # fmt: skip
    node.machine.set_master(True, loop.now())
    reconciler.start(known=False)
    loop.pass_time(100.5)
    assert problems == ["the kernel's table was not told"]
    assert not node.machine.may_speak
    loop.pass_time(110.0, unless=lambda: len(plays) == 1)
    assert loop.now() < 110.0, "sooner than the next regular one"
    reconciler.stop()
    reconciler.start(known=False)
    loop.pass_time(120.0)
    assert not plays, "rows that were read before do not make it a table to be asked for row by row"
    assert node.machine.may_speak
    assert len(node.table()) == 10
