"""Bulk updates: everything that one kernel has into the other one, which has nothing.

The clock runs from the first state in the receiver's kernel to the last. While hacore and the bare injector take turns
neither node is MASTER, so that nobody listens for events: a listener in one namespace makes the kernel build them for
all, which on two machines would not slow the other one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hacore.bench.load import connections, inject
from hacore.bench.meters import wait
from hacore.bench.record import Record
from hacore.bench.replicators import (
    BARE,
    RECEIVER,
    SENDER,
    Daemons,
    Pair,
    Replicator,
    Site,
    flush,
    shown,
)
from hacore.lab import topology

PATIENCE = 240.0
AT_REST = 3.0
BEGUN = 0.0005
AT_ONCE = 250_000  # rows that a load is built of, so that it takes little memory


def fill(where: Site, states: int) -> None:
    """The sender's kernel has so many."""
    for first in range(0, states, AT_ONCE):
        inject(where.one, connections(min(AT_ONCE, states - first), first))


def warm(where: Site, states: int) -> None:
    """The kernel takes memory for so many entries once; the first measurement would pay for all."""
    for node in (where.one, where.two):
        for first in range(0, states, AT_ONCE):
            inject(node, connections(min(AT_ONCE, states - first), first))
    where.flush()


@contextmanager
def nobody_listens(where: Site) -> Iterator[None]:
    """Neither node has a link to hold an address on, so that neither is MASTER."""
    ports = [cable.port for cable in topology.CABLES if cable.role in topology.NODES and cable.interface != "sync"]
    where.lab.faults.set_ports(ports, "down")
    try:
        wait(lambda: not shown(where.one)["kernel"]["listening"], PATIENCE, "fw1 does not listen")
        yield
    finally:
        where.lab.faults.set_ports(ports, "up")


def own(where: Site, states: int, repeat: int, record: Record) -> None:
    """hacore and the bare injector by turns, `repeat` of each."""
    with Pair(where) as pair:
        idle = pair.memory()
        pair.stop_receiver()
        fill(where, states)
        wait(lambda: shown(where.one)["table"]["own"] >= states, PATIENCE, "fw1 has its own states")
        with nobody_listens(where):
            for _ in range(repeat):
                flush(where.two)
                _bare(where, states, record)
                flush(where.two)
                _one_update(pair, states, idle, record)
                pair.stop_receiver()


def _bare(where: Site, states: int, record: Record) -> None:
    parts = [connections(min(AT_ONCE, states - first), first) for first in range(0, states, AT_ONCE)]
    spent = [inject(where.two, rows) for rows in parts]
    _note(record, BARE, states, sum(one.wall for one in spent), {RECEIVER: sum(one.cpu for one in spent)}, of=states)


def _one_update(pair: Pair, states: int, idle: dict[str, int], record: Record) -> None:
    where = pair.site
    sent = where.wire()
    where.lab.start(where.two)
    wait(lambda: pair.arrived() > 0, PATIENCE, "the bulk update begins", BEGUN)
    began, first, used = time.perf_counter(), pair.arrived(), pair.used()
    wait(lambda: pair.arrived() >= states, PATIENCE, "the bulk update ends", BEGUN)
    took = time.perf_counter() - began
    wait(where.two.replicates, PATIENCE, "the bulk update is acknowledged")
    spent = _since(pair, used)
    _note(record, pair.name, states, took * states / max(1, states - first), spent, of=states)
    record.less("bulk update: missing", "states", pair.name, 0, states=states)
    record.less("bulk update: bytes a state", "B", pair.name, (where.wire() - sent) / states, states=states)
    for side, octets in pair.memory().items():
        growth = (octets - idle[side]) / states
        record.less(f"bulk update: memory a state, {side}", "B", pair.name, growth, states=states)
    record.less(
        "bulk update: memory a state, table alone", "B", pair.name,
        shown(where.one)["table"]["memory_bytes"] / states, states=states,
    )  # fmt: skip


def resync(daemons: Daemons, states: int, record: Record) -> None:
    """conntrackd: a receiver that starts anew asks for everything; with an external cache the commit follows."""
    where = daemons.site
    with daemons:
        idle = daemons.memory()
        fill(where, states)
        sender = daemons.daemons[SENDER]
        wait(lambda: sender.cached("internal") >= states, PATIENCE, "conntrackd has the states of its kernel", 0.1)
        daemons.daemons[RECEIVER].close()
        flush(where.two)
        two = daemons.start_one(RECEIVER)
        sent, used, began = where.wire(), daemons.used(), time.perf_counter()
        two.ask("-n")
        came, ended = _come_to_rest(daemons.arrived, states, 0.005)
        if daemons.external_cache:
            record.less("bulk update: resync alone", "s", daemons.name, ended - began, states=states)
            ended_before = time.perf_counter()
            two.ask("-c")
            committed, last = _come_to_rest(where.counters[RECEIVER], came, 0.002)
            # A commit begins where somebody has seen that the resync is through, not when that was sure.
            came, ended = committed, ended + last - ended_before
        took = ended - began
        record.less("bulk update: missing", "states", daemons.name, states - min(came, states), states=states)
        _note(record, daemons.name, max(1, min(came, states)), took, _since(daemons, used), of=states)
        record.less("bulk update: bytes a state", "B", daemons.name, (where.wire() - sent) / states, states=states)
        for side, octets in daemons.memory().items():
            growth = (octets - idle[side]) / states
            record.less(f"bulk update: memory a state, {side}", "B", daemons.name, growth, states=states)


def _since(one: Replicator, used: dict[str, float]) -> dict[str, float]:
    return {side: seconds - used[side] for side, seconds in one.used().items()}


def _come_to_rest(count: Callable[[], int], wanted: int, pause: float) -> tuple[int, float]:
    """Until `wanted` are there, or nothing has come for `AT_REST` seconds: how many, and when the last was seen."""
    most, last = count(), time.perf_counter()
    while most < wanted and time.perf_counter() - last < AT_REST:
        time.sleep(pause)
        found = count()
        if found > most:
            most, last = found, time.perf_counter()
    return most, last


def _note(record: Record, subject: str, came: int, took: float, used: dict[str, float], *, of: int) -> None:
    record.less("bulk update: time", "s", subject, took, states=of)
    record.more("bulk update: rate", "states/s", subject, came / took, states=of)
    for side, seconds in used.items():
        record.less(f"bulk update: CPU a state, {side}", "s", subject, seconds / came, states=of)


def measure(where: Site, states: int, repeat: int, others: list[Replicator], record: Record) -> None:
    """Everything at one size, `repeat` times."""
    warm(where, states)
    own(where, states, repeat, record)
    for _ in range(repeat):
        for other in others:
            if isinstance(other, Daemons):
                resync(other, states, record)
