"""Two nodes, one connection: what the origin's kernel has, the replica's has."""

from __future__ import annotations

import numpy as np

from hacore.states.events import PeerConnected, Synced
from tests.states.simulation import DESTROY, NEW, TIME_WAIT, UPDATE, pair, rows


def test_changes_reach_the_other_kernel() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(100)), NEW, world.now)
    world.settle()
    assert b.kernel == a.kernel == b.table() == a.table()
    assert len(b.kernel) == 100
    a.sees(rows(range(50), protocol_state=TIME_WAIT, timeout=120), UPDATE, world.now)
    a.sees(rows(range(25, 75)), DESTROY, world.now)
    world.settle()
    assert b.kernel == a.kernel == b.table()
    assert len(b.kernel) == 50
    assert b.owned("a") == b.table()


def test_one_batch_may_name_a_key_many_times() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    story = np.concatenate([rows([1, 2]), rows([1], status=2), rows([2]), rows([3, 1]), rows([3]), rows([4])])
    a.sees(story, [NEW, NEW, UPDATE, DESTROY, NEW, UPDATE, DESTROY, DESTROY], world.now)
    world.settle()
    assert b.kernel == a.kernel == a.table() == b.table()
    assert len(b.kernel) == 1


def test_hello_and_bulk_are_told() -> None:
    world = pair()
    assert {event.role for event in world.told("b", PeerConnected)} == {"origin", "replica"}
    assert {(event.role, event.how) for event in world.told("a", Synced)} == {("origin", "bulk"), ("replica", "bulk")}


def test_a_bulk_update_repairs_a_kernel_whose_table_lacks_nothing() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    b.kernel.clear()
    for connection in world.connections:
        connection.sender.order_bulk("asked for", world.now)
    world.settle()
    assert b.kernel == a.kernel == b.table()


def test_a_repair_puts_only_what_differs_into_the_kernel() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    injected = b.injected
    b.machine.table.delete(rows(range(10)))
    for connection in world.connections:
        connection.sender.order_digests(world.now)
    world.settle()
    assert b.table() == a.table()
    assert b.injected - injected == 10
