"""Expectations reach the replica, and those that are gone leave it."""

from __future__ import annotations

import numpy as np

from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.states.expectations import Expectations
from hacore.states.replica import Work
from tests.states.simulation import DESTROY, NEW, World, events_of, pair, rows


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
    origin = world["a"].machine.origin
    world["a"].sees(rows([1], zone=3), NEW, world.now)
    world.settle()
    kept = work_of(world, "b")
    some = np.concatenate([expectation(20), expectation(21), expectation(20), expectation(22)])
    origin.observe_expectations(some, events_of([NEW, NEW, DESTROY, NEW]), world.now)
    world.settle()
    (work,) = kept
    assert work.expectations is not None
    assert work.expectations["destination_port"].tolist() == [21, 22]
    assert work.expectations["zone"].tolist() == [3, 3], "that of the connection that expects"
    assert work.expectations_gone is not None
    assert work.expectations_gone["destination_port"].tolist() == [20]
    assert origin.expectations()["destination_port"].tolist() == [21, 22]


def test_bulk_update_brings_all() -> None:
    world = pair()
    origin = world["a"].machine.origin
    origin.observe_expectations(np.concatenate([expectation(20), expectation(21)]), events_of([NEW, NEW]), world.now)
    world.settle()
    world.sever()
    origin.observe_expectations(expectation(21), events_of([DESTROY]), world.now)
    origin.drop_queue("a hang", world.now)
    kept = work_of(world, "b")
    world.connect("a", "b")
    world.settle()
    told = [work for work in kept if work.expectations is not None or work.expectations_gone is not None]
    assert told[-1].expectations is not None
    assert told[-1].expectations["destination_port"].tolist() == [20]
    assert told[-1].expectations_gone is not None
    assert told[-1].expectations_gone["destination_port"].tolist() == [21]
