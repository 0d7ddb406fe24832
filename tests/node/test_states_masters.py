"""Chains of connections that expected one another, such as an H.323 call's, from one node into the real kernel of the
other.
"""

from __future__ import annotations

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.node import states_injection, states_reconcile
from hacore.node.states import clock
from hacore.node.states_injection import InjectionQueue, operations_of
from hacore.states.layout import Rows
from tests.linux.conntrack_world import by_key
from tests.linux.test_conntrack_inject import connections
from tests.node.test_states_reconcile import entered
from tests.states.simulation import NEW, Node, World

EXPECTED = 1
CALLS, LENGTH = 6, 5


def calls(length: int = LENGTH) -> Rows:
    """Of each call a chain of connections, every one but the first expected by the one before; the last is in front."""
    rows = connections(CALLS * length)
    np.random.default_rng(1).shuffle(rows)  # their keys, by which rows are sorted on the way, are in no such order
    rows = rows.reshape(length, CALLS)
    for child, master in zip(rows[1:], rows[:-1], strict=True):
        child["status"] |= EXPECTED
        child["master_protocol"] = master["protocol"]
        for name in ("source", "destination", "source_port", "destination_port"):
            child[f"master_{name}"] = master[name]
    return rows[::-1].reshape(-1)


def all_have_masters(rows: Rows) -> bool:
    """The kernel has them all, each with the master that it is to have."""
    there = by_key(conntrack.dump_rows())
    assert there.keys() == by_key(rows).keys()
    names = [name for name in rows.dtype.names or () if name.startswith("master_")]
    return all(np.array_equal(row[name], there[key][name]) for key, row in by_key(rows).items() for name in names)


def linked(queue: InjectionQueue, **settings: int) -> World:
    """What is told to "b" goes into the kernel of `queue`."""
    world = World(Node("a", **settings), Node("b", **settings))
    world["a"].machine.set_master(True, world.now)
    replica = world["b"].machine.replica

    def put(now: float) -> None:
        for work in replica.work():
            queue.put(*operations_of(work, yields=False))
            queue.work(everything=True)
            replica.done(work, now)

    world["b"].put_into_kernel = put  # type: ignore[method-assign]
    return world


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("bulk_rows", [1, 4, 1024])
def test_in_a_bulk_update_and_a_repair(queue: InjectionQueue, bulk_rows: int, seed: int) -> None:
    world = linked(queue, bulk_rows=bulk_rows, bulk_window=2, partitions=16)
    rows = calls()
    np.random.default_rng(seed).shuffle(rows)
    for start in range(0, len(rows), 5):
        if start == 10:
            world["a"].machine.ownership.raise_epoch("rows of several epochs", world.now)
        world["a"].sees(rows[start : start + 5], NEW, world.now)
    world.connect("a", "b")
    world.settle()
    assert all_have_masters(rows)

    conntrack.flush()
    world["b"].machine.table.delete(rows)
    world.pass_time(61.0)
    assert all_have_masters(rows), "nor after a repair"


@pytest.mark.parametrize("seed", range(2))
def test_in_one_change(queue: InjectionQueue, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(states_injection, "SLICE_ROWS", (1, 4))
    world = linked(queue)
    world.connect("a", "b")
    world.settle()
    rows = calls()
    np.random.default_rng(seed).shuffle(rows)
    world["a"].sees(rows, NEW, world.now)
    world.settle()
    assert all_have_masters(rows)


@pytest.mark.parametrize("length", [2, LENGTH])
def test_found_by_a_comparison(queue: InjectionQueue, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """What lost events did not tell: a dump comes in no order, here one connection at a time."""
    monkeypatch.setattr(states_reconcile, "DUMP_ROWS", 1)
    world = linked(queue)
    rows = calls(length)
    with entered() as master:
        world["a"].machine, world.now = master.replication, clock()
        master.follower.start(known=False)
        master.compare()
        world.connect("a", "b")
        world.settle()
        assert master.follower._socket is not None
        master.follower._socket.mute()
        master.traffic.inject(rows[::-1])
        assert all_have_masters(rows)
        master.reconciler.soon(lost=True)
        master.compare()
        world.settle()
    assert all_have_masters(rows)


def test_a_circle_goes_in_without_its_masters(queue: InjectionQueue) -> None:
    """No kernel has one; whoever sends it gets connections that nobody expected."""
    world = linked(queue, bulk_rows=4)
    rows = calls()
    first, last = rows[-CALLS:][:1], rows[:1]
    for name in ("protocol", "source", "destination", "source_port", "destination_port"):
        first[f"master_{name}"] = last[name]
    world["a"].sees(rows, NEW, world.now)
    world.connect("a", "b")
    world.settle()
    assert conntrack.dump_rows().shape == rows.shape
    assert 1 <= queue.counts["no_master"] <= LENGTH


def test_the_injector_alone_does_not_make_it_right(queue: InjectionQueue) -> None:
    """Why the order matters: what is two places too early goes in without, and stays so."""
    with conntrack.Injector() as injector:
        rows = calls(3)
        injector.inject(rows)  # each is tried twice
        assert not all_have_masters(rows)
        injector.inject(rows, np.full(len(rows), ctnetlink.UPDATE, np.uint8))
        assert not all_have_masters(rows)
