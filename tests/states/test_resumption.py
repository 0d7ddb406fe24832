"""Connections that break: what a peer missed is all that it gets."""

from __future__ import annotations

import numpy as np

from hacore.states.events import Repaired, Synced
from tests.states.simulation import DESTROY, NEW, TIME_WAIT, UPDATE, Node, World, pair, rows, whole


def hows(world: World, name: str) -> list[str]:
    return [event.how for event in world.told(name, Synced) if event.role == "replica"]


def test_resumed_without_a_bulk_update() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(2000)), NEW, world.now)
    world.settle()
    injected = b.injected
    world.sever()
    a.sees(rows(range(100), protocol_state=TIME_WAIT), UPDATE, world.now)
    a.sees(rows(range(100, 150)), DESTROY, world.now)
    world.connect("a", "b")
    world.settle()
    assert hows(world, "b") == ["bulk", "resume"]
    assert b.injected - injected == 100
    assert b.kernel == a.kernel


def test_cut_anywhere() -> None:
    """The stream breaks after each so many bytes; nothing is sent in full again."""
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(500)), NEW, world.now)
    world.settle()
    for turn in range(100):
        world.cut = lambda available, turn=turn: min(available, 1 + 37 * turn % 200)  # type: ignore[misc]
        a.sees(rows(range(turn, turn + 20), mark=turn + 1), UPDATE, world.now)
        for _ in range(turn % 7):
            world.turn()
        world.sever()
        world.connect("a", "b")
    world.cut = whole
    world.settle()
    assert b.kernel == a.kernel == b.table()
    assert hows(world, "b")[1:] == ["resume"] * (len(hows(world, "b")) - 1)


def test_overflow_repairs_only_what_differs() -> None:
    world = pair(log_bytes=2000)
    a, b = world["a"], world["b"]
    a.sees(rows(range(3000)), NEW, world.now)
    world.settle()
    injected = b.injected
    world.sever()
    for number in range(100):
        a.sees(rows([number], mark=7), UPDATE, world.now)
    a.sees(rows([2999]), DESTROY, world.now)
    assert a.machine.log.overflowed
    world.connect("a", "b")
    world.settle()
    assert b.kernel == a.kernel
    repaired = world.told("a", Repaired)[-1]
    assert 50 < repaired.partitions <= 101
    assert repaired.rows < 600
    (here,) = world.told("b", Repaired)
    assert (here.peer, here.role, here.partitions, here.rows) == ("a", "replica", repaired.partitions, repaired.rows)
    assert b.injected - injected == 100
    assert hows(world, "b")[-1] == "repair"


def test_slow_peer_holds_nobody_back() -> None:
    world = World(Node("a", log_bytes=20_000), Node("b"), Node("c"))
    world["a"].machine.set_master(True, world.now)
    slow, _ = world.connect("a", "b"), world.connect("a", "c")
    world.settle()
    slow.stalled = True
    for start in range(0, 20_000, 100):
        world["a"].sees(rows(range(start, start + 100)), NEW, world.now)
        world.turn()
        world.turn()
    assert world["c"].kernel == world["a"].kernel
    assert len(world["b"].kernel) < 20_000
    assert world["a"].machine.log.bytes_held <= 20_000
    slow.stalled = False
    world.settle()
    assert world["b"].kernel == world["a"].kernel


def test_bulk_update_while_changes_go_on() -> None:
    world = World(Node("a", bulk_rows=50, bulk_window=2), Node("b"))
    a, b = world["a"], world["b"]
    a.machine.set_master(True, world.now)
    a.sees(rows(range(3000)), NEW, world.now)
    connection = world.connect("a", "b")
    random = np.random.default_rng(3)
    while not connection.sender.synced:
        some = np.unique(random.integers(0, 4000, 30))
        kinds = random.choice([NEW, UPDATE, DESTROY], len(some))
        a.sees(rows(some, mark=int(random.integers(1000))), [int(kind) for kind in kinds], world.now)
        world.turn()
        status = connection.sender.status(world.now)
        assert status.bulk_rows <= status.bulk_total + 1000
    world.settle()
    assert b.kernel == a.kernel == b.table()
    assert hows(world, "b") == ["bulk"]


def test_what_ends_and_changes_while_a_repair_waits_is_not_undone_by_it() -> None:
    world = pair(bulk_rows=5, bulk_window=1, partitions=4, digest_interval=1000)
    a, b = world["a"], world["b"]
    a.sees(rows(range(400)), NEW, world.now)
    world.settle()
    b.machine.table.delete(rows([7]))
    sender = world.connections[0].sender
    sender.order_digests(world.now)
    while not sender.status(world.now).bulk_rows:
        world.turn()
    assert sender.status(world.now).bulk_total - sender.status(world.now).bulk_rows > 0
    a.sees(rows(range(0, 400, 3)), DESTROY, world.now)
    a.sees(rows(range(1, 400, 3), protocol_state=TIME_WAIT), UPDATE, world.now)
    world.settle()
    assert sender.synced
    assert b.kernel == a.kernel
    assert b.table() == a.table()


def test_chunks_wait_for_the_kernel() -> None:
    world = World(Node("a", bulk_rows=50, bulk_window=3), Node("b"))
    world["a"].machine.set_master(True, world.now)
    world["a"].sees(rows(range(1000)), NEW, world.now)
    connection = world.connect("a", "b")
    world["b"].holds_work = True
    world.settle()
    assert world["b"].machine.replica.pending_rows == 150
    assert not connection.receiver.synced
    world["b"].holds_work = False
    world.settle()
    assert connection.receiver.synced
    assert connection.sender.status(world.now).bulk_rows == 1000
    assert world["b"].kernel == world["a"].kernel


def test_differences_are_found_by_the_regular_comparison() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    b.machine.table.delete(rows([5]))
    b.machine.table.put(rows([6], mark=9), owner=1)
    world.pass_time(61.0)
    assert b.table() == a.table()
    assert b.owned("a") == a.table()


def test_refreshed_timeouts_reach_the_replica() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    a.sees(rows([1, 2], timeout=100), NEW, world.now)
    world.settle()
    world.pass_time(60.0)
    a.machine.origin.begin_reconcile(world.now)
    both = np.concatenate([rows([1], timeout=100), rows([2], timeout=41)])
    assert a.machine.origin.reconcile(both, world.now) == 1
    a.machine.origin.end_reconcile(world.now)
    world.settle()
    found, _ = b.machine.table.lookup(rows([1, 2]))
    assert found["timeout"].tolist() == [100, 100]
    assert b.machine.table.metadata()["stamp"].tolist() != [1000, 1000]
    empty, _ = b.machine.table.scan(now=int(world.now) + 10)
    assert sorted(empty["timeout"].tolist()) == [30, 90]


def test_a_flushed_kernel_is_told_in_one_frame() -> None:
    """The events were lost, a comparison finds nothing of what there was."""
    world = pair(digest_interval=1000)
    a, b = world["a"], world["b"]
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    connection = world.connections[0]
    sent, position = connection.sender.bytes_sent, a.machine.log.last
    a.kernel.clear()
    a.dump(world.now)
    world.settle()
    assert not b.table()
    assert not b.kernel
    assert a.machine.log.last == position + 1
    assert connection.sender.bytes_sent - sent < 50
    a.sees(rows(range(500, 600)), NEW, world.now)
    world.settle()
    assert len(b.kernel) == 100
    a.kernel.clear()
    a.sees(rows([2000]), NEW, world.now)
    a.dump(world.now)
    world.settle()
    assert b.kernel == a.kernel == a.table()


def test_bulk_update_is_ordered_from_either_end() -> None:
    world = pair()
    world["a"].sees(rows(range(10)), NEW, world.now)
    world.settle()
    connection = world.connections[0]
    connection.sender.order_bulk("asked", world.now)
    world.settle()
    connection.receiver.request_bulk(world.now)
    world.settle()
    assert hows(world, "b") == ["bulk", "bulk", "bulk"]
    assert world["b"].kernel == world["a"].kernel


def test_after_a_hang_the_queue_is_dropped() -> None:
    world = pair()
    a, b = world["a"], world["b"]
    for connection in world.connections:
        connection.stalled = True
    a.sees(rows(range(40)), NEW, world.now)
    a.machine.origin.drop_queue("did not run for 8 s", world.now)
    for connection in world.connections:
        connection.stalled = False
    world.settle()
    assert hows(world, "b")[-1] in ("repair", "bulk")
    assert b.kernel == a.kernel
