"""Bulk updates: everything that one kernel has into the other one, which has nothing.

The clock, and that of the processors, runs from the moment at which the receiver asks for everything to the last state
that comes: with hacore from where its stream stands, with conntrackd from the call of `conntrackd -n`. While hacore and
the bare injector take turns neither node is MASTER, so that nobody listens for events: a listener in one namespace
makes the kernel build them for all, which on two machines would not slow the other one.
"""

from __future__ import annotations

import functools
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hacore.bench.load import inject
from hacore.bench.meters import cpu, wait
from hacore.bench.realistic import GRE, kernel_table
from hacore.bench.record import Record
from hacore.bench.replicators import BARE, RECEIVER, SENDER, Daemons, Pair, Replicator, Site, flush, shown, worker
from hacore.errors import HacoreError
from hacore.lab import nodes, topology
from hacore.lab.nodes import Node
from hacore.states.layout import Rows

PATIENCE = 240.0
AT_REST = 3.0
LOOK = 0.001
AT_ONCE = 250_000  # rows in one call of the injector, so that its messages take little memory
WORD = 300  # bytes on the wire between two looks that are more than an acknowledgement
BUSY = 0.2  # share of a core from which on a daemon is not at rest


@functools.lru_cache(maxsize=1)
def table(states: int) -> Rows:
    """What all subjects get: conntrackd does not send the keys of GRE."""
    return kernel_table(states, 1, without=(GRE,))


def fill(node: Node, states: int) -> tuple[float, float]:
    """A kernel has so many; seconds on the clock and of the processor that the injector took."""
    rows = table(states)
    spent = [inject(node, rows[first : first + AT_ONCE]) for first in range(0, states, AT_ONCE)]
    return sum(one.wall for one in spent), sum(one.cpu for one in spent)


def warm(where: Site, states: int) -> None:
    """The kernel takes memory for so many entries once; the first measurement would pay for all."""
    for node in (where.one, where.two):
        fill(node, states)
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


class Moment(NamedTuple):
    """What was seen at a moment of Unix time: how many had come, and seconds of processor time so far by side."""

    time: float
    came: int
    used: dict[str, float]


class Watch:
    """Looks at a receiver that begins by itself, of which is known only afterwards when that was."""

    def __init__(self, count: Callable[[], int], used: Callable[[], dict[str, float]]) -> None:
        self._count, self._used = count, used
        self._moments: list[Moment] = []

    def look(self) -> int:
        """Once; how many have come."""
        self._moments.append(Moment(time.time(), self._count(), self._used()))
        return self._moments[-1].came

    def at(self, moment: float) -> Moment:
        """The last look before then."""
        place = bisect_right(self._moments, moment, key=lambda one: one.time)
        return self._moments[max(0, place - 1)]

    def until_at_rest(self, wanted: int, over: Callable[[], bool] = lambda: True) -> tuple[int, float]:
        """Looks until `wanted` are there, or nothing has come for `AT_REST` seconds after the first and it is `over`;
        how many, and at which moment the last of them were seen.
        """
        wait(self.look, PATIENCE, "the bulk update begins", LOOK)
        most = self._moments[-1]
        while most.came < wanted and not (time.time() - most.time > AT_REST and over()):
            if time.time() - most.time > PATIENCE:
                raise HacoreError(f"the bulk update stands at {most.came} of {wanted} states")
            time.sleep(LOOK)
            if self.look() > most.came:
                most = self._moments[-1]
        return most.came, most.time


def own(where: Site, states: int, record: Record) -> None:
    """The bare injector and hacore, once each."""
    with Pair(where) as pair:
        idle = pair.memory()
        pair.stop_receiver()
        fill(where.one, states)
        wait(lambda: shown(where.one)["table"]["own"] >= states, PATIENCE, "fw1 has its own states")
        with nobody_listens(where):
            wall, spent = fill(where.two, states)
            _note(record, BARE, pair.arrived(), wall, {RECEIVER: spent}, of=states)
            flush(where.two)
            _one_update(pair, states, idle, record)


def _one_update(pair: Pair, states: int, idle: dict[str, int], record: Record) -> None:
    where = pair.site
    sent, started = where.wire(), time.time()
    where.lab.start(where.two)
    pids = {SENDER: worker(where.one), RECEIVER: _starting(where.two)}
    watch = Watch(pair.arrived, lambda: {side: cpu(pid) for side, pid in pids.items()})
    came, ended = watch.until_at_rest(states, where.two.replicates)
    wait(where.two.replicates, PATIENCE, "the bulk update is acknowledged")
    used = pair.used()
    wait(lambda: _asked(where, started), PATIENCE, "fw2 writes down that its stream stands")
    asked = _asked(where, started)
    before = watch.at(asked).used
    spent = {side: seconds - before[side] for side, seconds in used.items()}
    _note(record, pair.name, came, ended - asked, spent, of=states)
    record.less("bulk update: bytes a state", "B", pair.name, (where.wire() - sent) / states, states=states)
    _note_memory(record, pair, idle, states)
    record.less(
        "bulk update: memory a state, table alone", "B", pair.name,
        shown(where.one)["table"]["memory_bytes"] / states, states=states,
    )  # fmt: skip


def _starting(node: Node) -> int:
    """The id of the states worker of a node that starts, before the node can be asked for it."""

    def found() -> int:
        return next((pid for pid in node.processes()[1:] if "hacore.node.states" in nodes.command_line(pid)), 0)

    wait(found, PATIENCE, "the states worker starts", LOOK)
    return found()


def _asked(where: Site, started: float) -> float:
    """When the receiver's stream stood, in which it says at once that it has nothing; 0.0 while that is not known."""
    sentence = f"stream from {where.one.name} stands"
    stood = [event.time for event in where.two.history() if event.time >= started and event.text == sentence]
    return stood[0] if stood else 0.0


def resync(daemons: Daemons, states: int, record: Record) -> None:
    """conntrackd: a receiver that starts anew asks for everything; with an external cache the commit follows."""
    where = daemons.site
    with daemons:
        idle = daemons.memory()
        fill(where.one, states)
        sender = daemons.daemons[SENDER]
        wait(lambda: sender.cached("internal") >= states, PATIENCE, "conntrackd has the states of its kernel", 0.5)
        daemons.daemons[RECEIVER].close()
        flush(where.two)
        two = daemons.start_one(RECEIVER)
        sent, used, began = where.wire(), daemons.used(), time.time()
        two.ask("-n")
        if daemons.external_cache:
            took = _until_quiet(daemons) - began
            record.less("bulk update: resync alone", "s", daemons.name, took, states=states)
            # A commit begins where somebody has seen that the resync is through, not when that was sure.
            began = time.time() - took
            two.ask("-c")
        came, ended = Watch(where.counters[RECEIVER], daemons.used).until_at_rest(states)
        spent = {side: seconds - used[side] for side, seconds in daemons.used().items()}
        _note(record, daemons.name, came, ended - began, spent, of=states)
        record.less("bulk update: bytes a state", "B", daemons.name, (where.wire() - sent) / states, states=states)
        _note_memory(record, daemons, idle, states)


def _until_quiet(daemons: Daemons) -> float:
    """When the last was sent or worked off: asking a daemon for its numbers would keep it from its work."""
    last, seen = time.time(), (time.time(), daemons.site.wire(), daemons.used()[RECEIVER])
    while time.time() - last < AT_REST:
        time.sleep(5 * LOOK)
        now = time.time(), daemons.site.wire(), daemons.used()[RECEIVER]
        if now[1] - seen[1] > WORD or now[2] - seen[2] > BUSY * (now[0] - seen[0]):
            last = now[0]
        seen = now
    return last


def _note(record: Record, subject: str, came: int, took: float, used: dict[str, float], *, of: int) -> None:
    record.less("bulk update: time", "s", subject, took, states=of)
    record.more("bulk update: rate", "states/s", subject, came / took, states=of)
    record.less("bulk update: missing", "states", subject, of - min(came, of), states=of)
    for side, seconds in used.items():
        record.less(f"bulk update: CPU a state, {side}", "s", subject, seconds / came, states=of)


def _note_memory(record: Record, one: Replicator, idle: dict[str, int], states: int) -> None:
    for side, octets in one.memory().items():
        growth = (octets - idle[side]) / states
        record.less(f"bulk update: memory a state, {side}", "B", one.name, growth, states=states)


def measure(where: Site, states: int, repeat: int, others: list[Replicator], record: Record) -> None:
    """Everything at one size by turns, `repeat` times."""
    warm(where, states)
    for _ in range(repeat):
        own(where, states, record)
        for other in others:
            if isinstance(other, Daemons):
                resync(other, states, record)
