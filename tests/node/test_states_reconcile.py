"""A MASTER's comparisons with its kernel: the table of a namespace, entries that another socket makes and deletes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node import states_reconcile
from hacore.node.loop import Loop
from hacore.node.states import clock
from hacore.node.states_filter import Filter
from hacore.node.states_kernel import KernelFollower
from hacore.states.replication import Replication, ReplicationSettings
from tests.linux.test_conntrack_inject import connections
from tests.namespaces import Network

INTERVAL = 3600.0  # nothing is compared only because time has passed
FEW, MANY = 50, 3_000  # of which the second is no small table


class Machine:
    """A MASTER in the namespace that the test works in; `traffic` is what changes the kernel's table."""

    def __init__(self, traffic: conntrack.Injector) -> None:
        self.traffic = traffic
        self.problems: list[str] = []
        self.loop = Loop(lambda where, error: self.problems.append(f"{where}: {error!r}"))
        self.replication = Replication(
            ReplicationSettings(name="a"), instance=bytes(16), seed=bytes(16), digest_key=bytes(16)
        )
        self.replication.set_master(True, clock())
        self.follower = KernelFollower(
            self.loop, self.replication, Filter(), 0, [], INTERVAL, clock, lambda: None, self.problems.append,
            buffer_bytes=1 << 16,
        )  # fmt: skip
        self.reconciler = self.follower.reconciler

    def run_until(self, condition: Callable[[], bool]) -> None:
        until = self.loop.now() + 10.0
        while not condition():
            assert self.loop.now() < until, condition
            self.loop.run_once(0.1)

    def compare(self) -> None:
        """To the end of the next comparison."""
        count = self.reconciler.count
        self.run_until(lambda: self.reconciler.count > count)

    def delete(self, rows: conntrack.Records) -> None:
        self.traffic.inject(rows, np.full(len(rows), ctnetlink.DELETE, np.uint8))


@contextmanager
def entered() -> Iterator[Machine]:
    with Network() as network:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 0; }")
        with host.entered(), conntrack.Injector() as traffic:
            conntrack.keep_events()
            made = Machine(traffic)
            yield made
            made.follower.stop()
            if made.follower._socket is not None:
                made.follower._socket.close()
            made.loop.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    with entered() as made:
        yield made


@pytest.fixture
def dumps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for each dump that was asked for; "fail" as the last of them makes the next one fail."""
    asked: list[str] = []
    dump = conntrack.dump

    def noted(*arguments: Any, **options: Any) -> Any:
        fails = asked[-1:] == ["fail"]
        asked.append("failed" if fails else "dump")
        if fails:
            raise PlatformError("the kernel broke it off")
        return dump(*arguments, **options)

    monkeypatch.setattr(conntrack, "dump", noted)
    return asked


@pytest.mark.parametrize("known", [False, True])
def test_what_was_born_before_anybody_listened_is_found(machine: Machine, known: bool) -> None:
    rows = connections(2 * FEW)
    machine.replication.table.put(rows[:FEW])
    machine.traffic.inject(rows)
    machine.follower.start(known=known)
    machine.run_until(lambda: len(machine.replication.table) == len(rows))
    assert machine.reconciler.count <= 2
    assert machine.problems == []


def test_events_that_did_not_fit_do_not_reach_the_next_term(machine: Machine) -> None:
    machine.follower.start(known=True)
    machine.traffic.inject(connections(MANY))
    machine.follower.stop()
    assert machine.follower.lost == 1
    machine.delete(connections(MANY))
    machine.follower.start(known=True)
    assert machine.follower.events < MANY
    before = machine.follower.events
    machine.compare()
    assert machine.follower.events == before
    assert len(machine.replication.table) == 0


def test_a_dump_does_not_undo_events_that_came_after_the_kernel_wrote_it(machine: Machine) -> None:
    rows = connections(MANY)
    machine.traffic.inject(rows)
    machine.follower.start(known=False)
    machine.run_until(lambda: len(machine.replication.table) > 0)
    half = np.sort(rows["source_port"]) % 2 == 0
    for part in np.array_split(rows[half], 20):  # so that all events fit
        machine.delete(part)
        while machine.follower._receive().messages:
            pass
    machine.compare()
    assert machine.follower.lost == 0
    assert len(machine.replication.table) == np.count_nonzero(~half) == conntrack.count()


def test_a_dump_that_fails_is_made_good_at_once(machine: Machine, dumps: list[str]) -> None:
    machine.follower.start(known=False)
    machine.compare()
    dumps.append("fail")
    machine.reconciler.soon(lost=True)
    machine.compare()
    assert dumps == ["dump", "fail", "failed", "dump"]
    assert machine.problems == ["the kernel broke it off"]
    machine.reconciler.soon()
    machine.compare()
    assert len(dumps) == 4, "the table is small, and nothing is missing any more"


def test_a_dump_of_a_table_that_was_resized_meanwhile_is_made_again(
    machine: Machine, dumps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.follower.start(known=False)
    machine.compare()
    sysctl, sizes = conntrack.sysctl, [1 << 16, 1 << 17]
    monkeypatch.setattr(conntrack, "sysctl", lambda name: sizes.pop(0) if sizes else sysctl(name))
    machine.reconciler.soon(lost=True)
    machine.compare()
    assert dumps == ["dump"] * 3


def test_events_that_are_lost_during_a_dump_ask_for_another(machine: Machine, dumps: list[str]) -> None:
    machine.traffic.inject(connections(FEW))
    machine.follower.start(known=False)
    machine.run_until(lambda: len(machine.replication.table) > 0)
    machine.reconciler.soon(lost=True)
    machine.compare()
    machine.compare()
    assert dumps == ["dump"] * 2


def test_a_comparison_does_not_run_ahead_of_a_peer_that_acknowledges(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lag = states_reconcile.AHEAD_ROWS + 1
    monkeypatch.setattr(Replication, "lag", property(lambda _self: lag))
    monkeypatch.setattr(states_reconcile, "AHEAD_WAIT", 3600.0)
    machine.traffic.inject(connections(MANY))
    machine.follower.start(known=False)
    for _ in range(20):
        machine.loop.run_once(0.01)
    assert len(machine.replication.table) == 0
    lag = states_reconcile.AHEAD_ROWS
    machine.run_until(lambda: machine.reconciler.count == 1)
    assert len(machine.replication.table) == MANY


def test_a_peer_that_acknowledges_nothing_holds_no_comparison_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replication, "lag", property(lambda _self: 1 << 40))
    monkeypatch.setattr(states_reconcile, "AHEAD_WAIT", 0.02)
    machine.traffic.inject(connections(MANY))
    machine.follower.start(known=False)
    machine.run_until(lambda: machine.reconciler.count == 1)
    assert len(machine.replication.table) == MANY
