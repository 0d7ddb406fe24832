"""Expectations reach the replica, and those that are gone leave it."""

from __future__ import annotations

import numpy as np
import pytest

from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.states.expectations import INACTIVE, Expectations
from hacore.states.replica import Work
from tests.states.simulation import DESTROY, NEW, World, events_of, pair, rows
from tests.states.test_new_start import started_anew


def expectation(number: int) -> Expectations:
    """What FTP's helper expects of the connection `rows([1])`."""
    made = np.zeros(1, dtype=EXPECTATION_DTYPE)
    master = rows([1])
    made["family"], made["protocol"], made["master_protocol"] = 2, 6, 6
    made["source"], made["destination"] = master["destination"], master["source"]
    made["destination_port"], made["timeout"] = number, 300
    made["master_source"], made["master_destination"] = master["source"], master["destination"]
    made["master_source_port"], made["master_destination_port"] = master["source_port"], master["destination_port"]
    return made


def work_of(world: World, name: str) -> list[Work]:
    """Keeps what a node is to put into its kernel."""
    kept: list[Work] = []
    machine = world[name].machine

    def keep(now: float) -> None:
        for work in machine.replica.work():
            kept.append(work)
            machine.replica.done(work, now)

    world[name].put_into_kernel = keep  # type: ignore[method-assign]
    return kept


def test_come_and_go() -> None:
    world = pair()
    origin = world["a"].machine.origin.expectations
    world["a"].sees(rows([1], zone=3), NEW, world.now)
    world.settle()
    kept = work_of(world, "b")
    some = np.concatenate([expectation(20), expectation(21), expectation(20), expectation(22)])
    origin.observe(some, events_of([NEW, NEW, DESTROY, NEW]), world.now)
    world.settle()
    (work,) = kept
    assert work.expectations is not None
    assert work.expectations["destination_port"].tolist() == [21, 22]
    assert work.expectations["zone"].tolist() == [3, 3], "that of the connection that expects"
    assert work.expectations_gone is not None
    assert work.expectations_gone["destination_port"].tolist() == [20]
    assert origin.all(world.now)["destination_port"].tolist() == [21, 22]


def test_bulk_update_brings_all() -> None:
    world = pair()
    origin = world["a"].machine.origin.expectations
    origin.observe(np.concatenate([expectation(20), expectation(21)]), events_of([NEW, NEW]), world.now)
    world.settle()
    world.sever()
    origin.observe(expectation(21), events_of([DESTROY]), world.now)
    world["a"].machine.origin.drop_queue("a hang", world.now)
    kept = work_of(world, "b")
    world.connect("a", "b")
    world.settle()
    told = [work for work in kept if work.expectations is not None or work.expectations_gone is not None]
    assert told[-1].expectations is not None
    assert told[-1].expectations["destination_port"].tolist() == [20]
    assert told[-1].expectations_gone is not None
    assert told[-1].expectations_gone["destination_port"].tolist() == [21]


def seen_by_a_dump(world: World, found: Expectations) -> list[Work]:
    """What `b` is to do after a dump on `a`."""
    kept = work_of(world, "b")
    world["a"].machine.origin.expectations.reconcile(found, world.now)
    world.settle()
    return kept


def ports(expectations: Expectations | None) -> list[int]:
    return [] if expectations is None else expectations["destination_port"].tolist()


def test_a_dump_tells_what_differs() -> None:
    world = pair(reconcile_slack=5)
    origin = world["a"].machine.origin.expectations
    some = np.concatenate([expectation(number) for number in range(20, 26)])
    some["flags"] = INACTIVE
    origin.observe(some[:5], events_of([NEW] * 5), world.now)
    world.settle()
    world.now += 100.0
    some["timeout"] -= 100
    some["timeout"][1:3] = 205, 206
    some["flags"][3] = 0
    (work,) = seen_by_a_dump(world, some[1:])
    assert ports(work.expectations) == [22, 23, 25], "put off, active, new"
    assert ports(work.expectations_gone) == [20]
    assert work.expectations is not None
    assert work.expectations["timeout"].tolist() == [206, 200, 200]
    position = world["a"].machine.log.last
    assert not seen_by_a_dump(world, some[1:])
    assert world["a"].machine.log.last == position, "nothing is told twice"


def test_an_end_that_moves_a_little_each_time_is_told_in_the_end() -> None:
    world = pair(reconcile_slack=5)
    one = expectation(20)
    world["a"].machine.origin.expectations.observe(one, events_of([NEW]), world.now)
    world.settle()
    moves = []
    for _ in range(7):
        one["timeout"] += 2
        moves.append(len(seen_by_a_dump(world, one)))
    assert moves == [0, 0, 1, 0, 0, 1, 0]


def test_two_that_differ_in_who_expects_them_are_two() -> None:
    """In two zones: within one the kernel has none that is expected twice."""
    world = pair()
    both = np.concatenate([expectation(20), expectation(20)])
    both["master_source_port"][1] += 1
    seen_by_a_dump(world, both)
    (work,) = seen_by_a_dump(world, both[1:])
    assert work.expectations_gone is not None
    assert work.expectations_gone["master_source_port"] == both["master_source_port"][0]


@pytest.mark.parametrize("zone", [0, 3])
def test_copies_of_another_masters_are_its_own(zone: int) -> None:
    world = pair()
    world["b"].machine.set_master(True, world.now)
    world["b"].sees(rows([1], zone=zone), NEW, world.now)
    world.settle()
    kept = seen_by_a_dump(world, expectation(20))
    here = world["a"].machine.origin.expectations
    here.observe(expectation(21), events_of([DESTROY]), world.now)  # the time of a copy is over
    world.settle()
    assert not kept
    assert len(here.all(world.now)) == 0
    world.sever("b")
    (work,) = [*seen_by_a_dump(world, expectation(20)), *reconnected(world)][-1:]
    assert ports(work.expectations) == [20], "a MASTER tells of those of a node that is gone"


def reconnected(world: World) -> list[Work]:
    kept = work_of(world, "b")
    world["b"].machine.set_master(False, world.now)
    world.mesh()
    world.settle()
    return [work for work in kept if work.expectations is not None]


def test_a_node_that_is_master_no_more_takes_none_away() -> None:
    world = pair()
    world["a"].sees(rows([1]), NEW, world.now)
    former = world["a"].machine.origin.expectations
    former.observe(expectation(20), events_of([NEW]), world.now)
    world.settle()
    world["a"].machine.set_master(False, world.now)
    world["b"].machine.set_master(True, world.now)
    world.settle()
    assert world["b"].owners() == dict.fromkeys(world["b"].owners(), "b")
    kept = work_of(world, "b")
    former.send_all(world.now)
    world.settle()
    former.observe(expectation(20), events_of([DESTROY]), world.now)
    world.settle()
    assert not [work for work in kept if len(work.expectations_gone or ()) or len(work.expectations or ())]


def test_what_left_the_log_is_told_where_digests_are_alike() -> None:
    world = pair()
    world["a"].sees(rows([1]), NEW, world.now)
    world.settle()
    world.sever()
    kept = work_of(world, "b")
    world["a"].machine.origin.expectations.observe(expectation(20), events_of([NEW]), world.now)
    world["a"].machine.origin.drop_queue("a hang", world.now)
    world.connect("a", "b")
    world.settle()
    assert [ports(work.expectations) for work in kept if work.expectations is not None] == [[20]]


def test_a_bulk_update_tells_what_is_left_of_timeouts() -> None:
    world = pair()
    world["a"].sees(rows([1]), NEW, world.now)
    world["a"].machine.origin.expectations.observe(expectation(20), events_of([NEW]), world.now)
    world.settle()
    kept = work_of(world, "b")
    world.pass_time(100.0)
    world.connections[0].sender.order_bulk("asked", world.now)
    world.settle()
    (told,) = [work.expectations for work in kept if work.expectations is not None]
    assert told["timeout"].tolist() == [200]


def test_a_master_that_starts_anew_takes_away_what_its_former_life_told() -> None:
    world = pair()
    world["a"].sees(rows([1]), NEW, world.now)
    both = np.concatenate([expectation(20), expectation(21)])
    world["a"].machine.origin.expectations.observe(both, events_of([NEW, NEW]), world.now)
    world.settle()
    kept = work_of(world, "b")
    a = started_anew(world, "a")
    a.machine.set_master(True, world.now)
    a.dump(world.now)
    a.machine.origin.expectations.reconcile(both[:1], world.now)
    world.mesh()
    world.settle()
    (work,) = [work for work in kept if work.expectations is not None]
    assert ports(work.expectations) == [20]
    assert ports(work.expectations_gone) == [21]
