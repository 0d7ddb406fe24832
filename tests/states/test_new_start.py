"""A process starts anew on a node whose kernel has all its connections: nobody else's kernel loses one for that."""

from __future__ import annotations

import pytest

from hacore.errors import LocalProtocolError
from tests.states.simulation import DESTROY, NEW, UPDATE, Node, World, pair, rows
from tests.states.test_resumption import hows

QUIET = {"ping_interval": 1000, "dead_time": 2000, "digest_interval": 5}


def started_anew(world: World, name: str, **settings: int) -> Node:
    """The process of a node dies; the next one finds the kernel as it is."""
    world.sever(name)
    before = world[name]
    after = world.nodes[name] = Node(name, 1, before.machine.ownership.epoch, **settings)
    after.kernel = before.kernel
    return after


def lowest(world: World, name: str, turns: int = 400) -> int:
    """The fewest entries that a kernel has while everything comes to rest."""
    counts = []
    for _ in range(turns):
        world.turn()
        counts.append(len(world[name].kernel))
    world.settle()
    return min(counts)


def test_a_master_is_silent_until_it_knows_its_kernel() -> None:
    world = pair()
    world["a"].sees(rows(range(1000)), NEW, world.now)
    world.settle()
    b, injected = world["b"], world["b"].injected
    a = started_anew(world, "a")
    a.machine.set_master(True, world.now)
    a.begin_dump(world.now)
    for _ in range(20):
        a.continue_dump(world.now)
    for begin in (lambda: a.machine.dial("b", world.now), lambda: a.machine.accept(world.now, "b")):
        with pytest.raises(LocalProtocolError, match="before its table was compared"):
            begin()
    while a.comparing:
        assert not a.machine.may_speak
        a.continue_dump(world.now)
    assert a.machine.may_speak
    world.mesh()
    assert lowest(world, "b") == 1000
    assert b.kernel == a.kernel == b.owned("a")
    assert b.injected == injected, "digests tell that nothing differs"


def test_what_changed_in_the_meantime_is_repaired() -> None:
    world = pair()
    world["a"].sees(rows(range(1000)), NEW, world.now)
    world.settle()
    a = started_anew(world, "a")
    a.machine.set_master(True, world.now)
    a.sees(rows(range(10)), DESTROY, world.now)
    a.begin_dump(world.now)
    a.sees(rows(range(10, 20), mark=5), UPDATE, world.now)
    a.sees(rows(range(2000, 2010)), NEW, world.now)
    a.sees(rows(range(20, 30)), DESTROY, world.now)
    while a.comparing:
        a.continue_dump(world.now)
    world.mesh()
    assert lowest(world, "b") >= 980
    assert world["b"].kernel == a.kernel == world["b"].owned("a")
    assert len(a.kernel) == 990


def test_an_incomplete_comparison_does_not_count() -> None:
    a = Node("a")
    a.kernel.put(rows([1]), 0.0)
    a.machine.set_master(True, 0.0)
    a.begin_dump(0.0)
    a.machine.origin.end_reconcile(0.0, complete=False)
    assert not a.machine.may_speak
    a.dump(0.0)
    assert a.machine.may_speak


def test_who_stops_being_master_before_that_leaves_its_rows_to_the_next() -> None:
    world = pair()
    world["a"].sees(rows(range(1000)), NEW, world.now)
    world.settle()
    a, b = started_anew(world, "a"), world["b"]
    a.machine.set_master(True, world.now)
    a.begin_dump(world.now)
    for _ in range(20):
        a.continue_dump(world.now)
    a.end_dump()
    a.machine.set_master(False, world.now)
    b.machine.set_master(True, world.now, promoted=True)
    world.mesh()
    assert lowest(world, "b") == 1000
    assert len(b.owned("b")) == len(a.owned("b")) == 1000
    assert a.kernel == b.kernel


@pytest.mark.parametrize("cut", [False, True])
def test_who_becomes_master_with_its_sessions_there_compares_nothing_before_that(cut: bool) -> None:
    """It said hello when it was MASTER of nothing, so what its former life owned is still there under that name."""
    world = World(Node("a", **QUIET), Node("b", **QUIET))
    a, b = world["a"], world["b"]
    a.machine.set_master(True, world.now)
    world.mesh()
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    a = started_anew(world, "a", **QUIET)
    world.mesh()
    world.settle()
    assert len(b.kernel) == 1000
    if cut:  # the answer that would let it resume its stream comes when it is MASTER
        world.sever()
        world.mesh()
    a.machine.set_master(True, world.now, promoted=True)
    a.begin_dump(world.now)
    for _ in range(20):
        a.continue_dump(world.now)
    a.end_dump()  # for as long as this test likes
    a.sees(rows(range(2000, 2010)), NEW, world.now)
    world.pass_time(30.0)
    assert len(b.kernel) >= 1000
    a.begin_dump(world.now)
    assert lowest(world, "b") >= 1000
    world.pass_time(30.0)
    assert a.kernel == b.kernel == b.owned("a")
    assert all(each.sender.synced for each in world.connections)


def test_who_follows_a_master_from_its_first_comparison_on_knows_its_kernel() -> None:
    world = World(Node("a"), Node("b"))
    a, b = world["a"], world["b"]
    world.mesh()
    world.settle()
    a.machine.set_master(True, world.now, promoted=True)
    a.sees(rows(range(100)), NEW, world.now)
    world.settle()
    assert len(b.kernel) == 100
    assert not b.machine.origin.knows_kernel, "there may be more in a's"
    a.dump(world.now)
    world.settle()
    assert b.machine.origin.knows_kernel


def test_a_backup_that_starts_anew_keeps_its_kernel() -> None:
    world = pair()
    world["a"].sees(rows(range(1000)), NEW, world.now)
    world.settle()
    b = started_anew(world, "b")
    world.mesh()
    assert lowest(world, "b") == 1000
    assert hows(world, "b") == ["bulk"]
    assert b.kernel == world["a"].kernel
    assert b.machine.origin.knows_kernel, "it has followed a MASTER"
