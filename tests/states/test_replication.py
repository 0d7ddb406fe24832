"""Two nodes, one connection: what the origin's kernel has, the replica's has."""

from __future__ import annotations

import numpy as np
import pytest

from hacore.states.events import PeerConnected, Synced
from hacore.states.layout import Rows, keys_of
from tests.states.kernel import contents
from tests.states.simulation import DESTROY, NEW, TIME_WAIT, UPDATE, Node, World, pair, row, rows


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


def test_connections_that_others_expected_come_after_them_in_a_sync() -> None:
    """The kernel takes one with its master only when that is there."""
    world = World(*(Node(name, bulk_rows=4, bulk_window=2, partitions=16) for name in ("a", "b")))
    a, b = world["a"], world["b"]
    a.machine.set_master(True, world.now)
    master, child, later, ended = (row(number) for number in range(1, 5))
    for each in (child, later, ended):
        each["master_protocol"] = 6
        for name in ("source", "destination", "source_port", "destination_port"):
            each[f"master_{name}"] = master[name]
    for changed in (master, rows(range(10, 30)), child, ended):
        a.sees(changed, NEW, world.now)
    brought: list[bytes] = []
    put = b.put_into_kernel

    def watched(now: float) -> None:
        before = b.kernel.keys() | set()
        put(now)
        brought.extend(sorted(b.kernel.keys() - before))

    b.put_into_kernel = watched  # type: ignore[method-assign]
    world.connect("a", "b")
    for _ in range(4):
        world.turn()
    a.sees(ended, DESTROY, world.now)
    a.sees(later, NEW, world.now)
    world.settle()
    assert b.kernel == a.kernel == b.table()
    assert len(b.kernel) == 23
    assert brought.index(key_of(child)) > brought.index(key_of(master))

    brought.clear()
    for changed in (master, child):
        b.machine.table.delete(changed)
        for key in contents(changed):
            del b.kernel[key]
    world.pass_time(61.0)
    assert brought.index(key_of(child)) > brought.index(key_of(master)), "nor in a repair"
    assert b.kernel == a.kernel


def key_of(one: Rows) -> bytes:
    return bytes(keys_of(one)[0].tobytes())


@pytest.mark.parametrize("others", [False, True])
def test_labels_that_were_cleared_are_told(others: bool) -> None:
    """An update of a row without labels leaves those of the entry alone."""
    world = pair()
    a, b = world["a"], world["b"]
    if others:
        b.machine.set_master(True, world.now)
        b.sees(rows([9]), NEW, world.now)
    labelled = rows([1, 2, 3])
    labelled["labels"][:, 3] = 8
    a.sees(labelled, NEW, world.now)
    world.settle()
    b.machine.set_master(False, world.now)
    b.holds_work = True
    labelled["labels"][:2] = 0
    labelled["mark"] = 1
    a.sees(labelled, UPDATE, world.now)
    world.settle()
    (work,) = [work for work in b.machine.replica.work() if len(work.rows)]
    assert {int(each["source_port"]) - 1024: bool(hit) for each, hit in zip(work.rows, work.cleared, strict=True)} == {
        1: True, 2: True, 3: False,
    }  # fmt: skip


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
