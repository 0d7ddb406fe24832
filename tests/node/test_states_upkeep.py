"""What the kernel loses of the peers' connections, or had no room for, comes back: the table of a namespace."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.node import states_upkeep
from hacore.node.loop import Loop
from hacore.node.states import clock
from hacore.node.states_injection import InjectionQueue
from hacore.node.states_upkeep import Upkeep
from hacore.states.layout import Rows
from hacore.states.replication import Replication, ReplicationSettings
from tests.linux.test_conntrack_inject import connections
from tests.namespaces import Host, Network

COUNT = 1_000


class Machine:
    """A node in the namespace that the test works in; its peer "a" owns the rows in its table."""

    def __init__(self, host: Host, injector: conntrack.Injector) -> None:
        self.host = host
        self.problems: list[str] = []
        self.loop = Loop(lambda where, error: self.problems.append(f"{where}: {error!r}"))
        self.replication = Replication(
            ReplicationSettings(name="b"), instance=bytes(16), seed=bytes(16), digest_key=bytes(16)
        )
        self.peer, _ = self.replication.ownership.meet("a", b"a" * 16, 1, 1, True)
        self.peer.connected = self.peer.has_rows = True
        self.queue = InjectionQueue(injector)
        self.upkeep = Upkeep(
            self.loop, self.replication, self.queue, 0.05, clock, self.work_soon, self.problems.append
        )  # fmt: skip
        self.loop.register(self.queue.fileno(), lambda _events, now: self.work(now))

    def owns(self, rows: Rows, *, passed: int = 0) -> None:
        """The peer does; `passed`: its word is so many seconds old."""
        self.replication.table.put(rows, owner=self.peer.index, epoch=1, now=int(clock()) - passed)

    def inject(self, rows: Rows, operation: int = ctnetlink.INSERT) -> None:
        """As the worker does with what comes from the peer."""
        self.queue.put(rows, np.full(len(rows), operation, np.uint8))
        self.queue.work(everything=True)

    def work_soon(self) -> None:
        self.loop.call_soon(self.work)

    def work(self, _now: float) -> None:
        if self.queue.work():
            self.work_soon()

    def run_until(self, condition: Callable[[], bool]) -> None:
        until = self.loop.now() + 20.0
        while not condition():
            assert self.loop.now() < until, (condition, conntrack.count(), self.upkeep.__dict__, self.queue.errors)
            self.loop.run_once(0.1)

    def check(self) -> None:
        """To the end of a comparison that begins after this, and of what comes of it."""
        self.run_until(lambda: self.upkeep._batches is None)
        count = self.upkeep.count
        self.run_until(lambda: self.upkeep.count > count and self.queue.is_empty)

    @property
    def found(self) -> tuple[int, int]:
        return self.upkeep.missing, self.upkeep.differing


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(states_upkeep, "SPACING", 1)
    with Network() as network:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 0; }")
        with host.entered(), conntrack.Injector(extra_timeout=60) as injector:
            made = Machine(host, injector)
            yield made
            made.upkeep.close()
            made.queue.close()
            made.loop.close()
            assert made.problems == []


def keys(rows: Rows) -> set[bytes]:
    return {row.tobytes()[:40] for row in rows}


def test_what_the_kernel_has_as_it_should_is_left_alone(machine: Machine) -> None:
    rows = connections(COUNT)
    rows["helper"][:10] = b"unheard-of"
    rows["labels"][10:20] = 1
    rows["mark"][20:30] = 7
    machine.owns(rows)
    machine.inject(rows)
    inserted = machine.queue.counts["messages"]
    machine.upkeep.start()
    machine.check()
    machine.check()
    assert machine.found == (0, 0)
    assert machine.queue.counts["messages"] == inserted


def test_entries_that_are_deleted_return(machine: Machine) -> None:
    rows = connections(COUNT)
    machine.owns(rows)
    machine.inject(rows)
    machine.upkeep.start()
    for port in (10_000, 10_255, 10_256, 10_999):
        machine.host.run("conntrack", "-D", "-p", "tcp", "--orig-port-src", str(port))
    assert conntrack.count() == COUNT - 4
    machine.check()
    assert keys(conntrack.dump_rows()) == keys(rows)
    assert machine.found == (4, 0)
    conntrack.flush()
    machine.check()
    assert keys(conntrack.dump_rows()) == keys(rows)
    assert machine.found == (4 + COUNT, 0)


def test_connections_that_others_expected_return_after_those(machine: Machine) -> None:
    """The newest of a call is looked at first, batches before the connection that it comes from."""
    rows = connections(COUNT)
    chain = [0, COUNT // 2, COUNT - 2, COUNT - 1]
    for child, master in pairwise(reversed(chain)):
        rows["status"][child] |= 1  # EXPECTED
        rows["master_protocol"][child] = rows["protocol"][master]
        for name in ("source", "destination", "source_port", "destination_port"):
            rows[f"master_{name}"][child] = rows[name][master]
    machine.owns(rows)
    machine.inject(rows[::-1])
    conntrack.flush()
    machine.upkeep.start()
    machine.check()
    there = conntrack.dump_rows()
    assert keys(there) == keys(rows)
    assert np.count_nonzero(there["master_protocol"]) == len(chain) - 1
    assert machine.found == (COUNT, 0)


def test_entries_that_differ_are_brought_up_to_date(machine: Machine) -> None:
    rows = connections(COUNT)
    machine.owns(rows)
    machine.inject(rows)
    others = rows[:4].copy()
    others["mark"][0] = 9
    others["protocol_state"][1] = 7
    others["reply_destination_port"][2:] += 20_000
    with conntrack.Injector() as other:
        other.inject(others)
    machine.upkeep.start()
    machine.check()
    assert machine.found == (0, 4)
    machine.check()
    assert machine.found == (0, 4)
    entries = conntrack.dump_rows()
    assert (entries["mark"] == 0).all()
    assert (entries["protocol_state"] == 3).all()
    assert sorted(entries["reply_destination_port"]) == sorted(rows["reply_destination_port"])


def test_rows_whose_time_has_passed_do_not_return(machine: Machine) -> None:
    rows = connections(COUNT)
    machine.owns(rows[:10], passed=1000)
    machine.owns(rows[10:], passed=900)
    machine.upkeep.start()
    machine.check()
    assert keys(conntrack.dump_rows()) == keys(rows[10:])
    assert conntrack.dump_rows()["timeout"].max() <= 100 + 60


def test_what_is_on_its_way_is_not_missing(machine: Machine) -> None:
    rows = connections(COUNT)
    machine.owns(rows)
    machine.queue.put(rows)
    machine.upkeep.start()
    machine.run_until(lambda: machine.upkeep._batches is not None)
    for _ in range(5):
        machine.loop.run_once(0.05)
    assert machine.upkeep.count == 0
    machine.work_soon()
    machine.run_until(lambda: machine.upkeep.count > 0)
    assert machine.found == (0, 0)
    assert machine.queue.counts["inserted"] == COUNT


def test_a_master_puts_in_what_a_peer_speaks_for_and_nothing_else(machine: Machine) -> None:
    rows = connections(COUNT)
    machine.owns(rows)
    gone, _ = machine.replication.ownership.meet("c", b"c" * 16, 1, 1, False)
    gone.has_rows = True
    machine.replication.table.put(connections(10, public=2, first_port=30_000), owner=gone.index, epoch=1)
    machine.replication.table.put(connections(10, public=3, first_port=40_000), owner=0, epoch=1)
    machine.replication.set_master(True, clock())
    machine.upkeep.start()
    machine.check()
    assert keys(conntrack.dump_rows()) == keys(rows)


class FullKernel:
    """`limit` is what there is room for, as the kernel of this machine would have it if its table were so small."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        self.limit = limit
        inject = machine.queue._injector.inject

        def limited(rows: Rows, operations: np.ndarray, errors: np.ndarray) -> object:
            room = max(self.limit - conntrack.count(), 0)
            injected = inject(rows[:room], operations[:room], errors[:room])
            errors[room:] = errno.ENOMEM
            return Outcome(injected.as_dict(), len(rows[room:]))

        monkeypatch.setattr(machine.queue._injector, "inject", limited)
        monkeypatch.setattr(conntrack, "limit", lambda: self.limit)


class Outcome:
    def __init__(self, counts: dict[str, int], full: int) -> None:
        self.counts = counts | {"failed": counts["failed"] + full, "full": full}
        self.failed, self.full, self.yielded = self.counts["failed"], full, self.counts["yielded"]

    def as_dict(self) -> dict[str, int]:
        return self.counts


@pytest.mark.parametrize("remembered", [states_upkeep.REFUSED_ROWS, 100])
def test_a_table_that_was_full_becomes_complete(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(states_upkeep, "REFUSED_ROWS", remembered)
    monkeypatch.setattr(states_upkeep, "SPACING", 1_000_000)
    kernel = FullKernel(machine, monkeypatch, 300)
    rows = connections(COUNT)
    machine.owns(rows)
    machine.inject(rows)
    assert conntrack.count() == 300
    assert machine.upkeep.unfitted == 700 if remembered > COUNT else machine.upkeep.unfitted <= remembered
    machine.upkeep._work = 1.0  # no comparison only because time has passed
    machine.upkeep.start()
    for _ in range(10):
        machine.loop.run_once(0.1)
    assert conntrack.count() == 300
    machine.upkeep._finished = -1e9
    kernel.limit = COUNT * 2
    machine.run_until(lambda: conntrack.count() == COUNT)
    machine.run_until(lambda: machine.upkeep._retry_at is None)
    assert machine.upkeep.unfitted == 0
    assert keys(conntrack.dump_rows()) == keys(rows)


def test_what_is_gone_meanwhile_is_not_put_in_when_there_is_room(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FullKernel(machine, monkeypatch, 0)
    rows = connections(COUNT)
    machine.owns(rows)
    machine.inject(rows)
    machine.replication.table.delete(rows[:500])
    kernel.limit = COUNT
    machine.run_until(lambda: machine.upkeep.unfitted == 0 and machine.queue.is_empty)
    assert keys(conntrack.dump_rows()) == keys(rows[500:])


def test_a_kernel_that_lost_many_is_looked_at_before_its_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_upkeep, "SPACING", 1_000_000)
    rows = connections(COUNT)
    machine.owns(rows)
    machine.inject(rows)
    machine.upkeep.start()
    machine.check()
    machine.host.run("conntrack", "-D", "-p", "tcp", "--orig-port-src", "10000")
    for _ in range(5):
        machine.loop.run_once(0.1)
    assert (machine.upkeep.count, conntrack.count()) == (1, COUNT - 1)
    conntrack.flush()
    machine.check()
    assert keys(conntrack.dump_rows()) == keys(rows)
