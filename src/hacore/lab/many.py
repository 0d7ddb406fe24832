"""Many VIPs on a pair: what they cost while nothing happens, and how long it takes to move them all.

Intervals are those of classic CARP. The pair is measured alone first, without probe or observers, whose copies of each
advert would be charged to the sender; then all VIPs are moved, with both watching.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from hacore.errors import HacoreError
from hacore.lab import faults, figures, play, topology
from hacore.lab.figures import ProbeFigures
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.lab.observers import Observations, Recording
from hacore.linux.process import cpu_time, resident_bytes

VIPS = 200
SECONDS = 20.0
_PROFILE = "classic"
_PATIENCE = 60.0
_CALM = 2.0
_TICK = 0.05
_CRASH = "crash"


class ProcessLoad(msgspec.Struct, frozen=True):
    """What one process used: `cpu` is its share of one core, `resident_bytes` its RSS."""

    process: str
    cpu: float
    resident_bytes: int


class NodeLoad(msgspec.Struct, frozen=True):
    """A node while nothing happens: what it is, and its long-lived processes."""

    node: str
    state: str
    processes: list[ProcessLoad]

    @property
    def cpu(self) -> float:
        """Share of one core, all processes."""
        return sum(each.cpu for each in self.processes)

    @property
    def resident_bytes(self) -> int:
        """RSS of all processes."""
        return sum(each.resident_bytes for each in self.processes)


class Move(msgspec.Struct, kw_only=True, frozen=True):
    """All VIPs go from one node to the other. Seconds.

    taken_in, given_up: from the first address to the last; None where the node that had them was dead. done: from the
    deed to the last address that was taken in.
    """

    deed: str
    node: str
    taken_in: float
    given_up: float | None
    done: float
    probe: ProbeFigures


class ManyFigures(msgspec.Struct, kw_only=True):
    """vips, addresses: how many; advbase, seconds: how often they were advertised and how long the idle pair was
    measured.
    """

    vips: int
    addresses: int
    advbase: int
    seconds: float
    loads: list[NodeLoad]
    moves: list[Move]


def measure(
    lab: Lab,
    *,
    vips: int = VIPS,
    seconds: float = SECONDS,
    family: int = 4,
    watch: Callable[[Recording], None] | None = None,
) -> ManyFigures:
    """Give the nodes of `lab` that many VIPs, measure, and give them their own again."""
    profile, preempt, states = lab.record.profile, lab.record.preempt, lab.record.states
    wanted = topology.many_vips(vips, (family,))
    lab.stop_nodes()
    lab.configure(_PROFILE, True, wanted)
    try:
        play.heal(lab)
        return _measure(lab, wanted, seconds, family, watch)
    finally:
        lab.stop_nodes()
        lab.configure(profile, preempt, states=states)
        play.heal(lab)
        play.wait_for_master(lab)


def _measure(
    lab: Lab,
    vips: tuple[topology.Vip, ...],
    seconds: float,
    family: int,
    watch: Callable[[Recording], None] | None,
) -> ManyFigures:
    addresses = topology.addresses_of(vips)
    master, backup = lab.preferred, lab.other(lab.preferred)

    def recording() -> Recording:
        return Recording(lab.paths, family=family, mark=lab.directory, addresses=addresses, watch=watch)

    with recording() as before:
        _wait(before, master, addresses)
    loads = _loads([master, backup], seconds)
    with recording() as during:
        _wait(during, master, addresses)
        deeds: list[tuple[str, Callable[[], object], Node]] = [
            ("maintenance enter", lambda: master.maintenance(True), backup),
            ("maintenance leave", lambda: master.maintenance(False), master),
            (_CRASH, lambda: faults.crash(master.processes()), backup),
        ]
        times: list[tuple[str, float, float, Node]] = []
        for name, deed, successor in deeds:
            began = time.monotonic()
            deed()
            _wait(during, successor, addresses)
            times.append((name, began, time.monotonic(), successor))
        seen = during.observations()
    return ManyFigures(
        vips=len(vips),
        addresses=len(addresses),
        advbase=lab.profile.advbase,
        seconds=seconds,
        loads=loads,
        moves=[_move(seen, lab, *each) for each in times],
    )


def _wait(recording: Recording, expected: Node, addresses: set[str]) -> None:
    """Until `expected` has held every address for a while, and nobody else any."""
    deadline = time.monotonic() + _PATIENCE
    calm = time.monotonic()
    while time.monotonic() - calm < _CALM:
        time.sleep(_TICK)
        recording.poll()
        others = (held for name, held in recording.held.items() if name != expected.name)
        if recording.held[expected.name] != addresses or any(others):
            calm = time.monotonic()
        if time.monotonic() > deadline:
            held = ", ".join(f"{name} holds {len(some)}" for name, some in recording.held.items())
            raise HacoreError(f"waited for {expected.name} to hold all {len(addresses)} addresses: {held}")


def _loads(nodes: list[Node], seconds: float) -> list[NodeLoad]:
    """CPU time of each supervisor and election worker over `seconds`, from the clock that the kernel keeps for it."""
    before = {}
    for node in nodes:
        worker = node.election_worker()
        before[node.name] = {"supervisor": node.processes()[0], "election": worker}
    began = time.monotonic()
    used = {pid: cpu_time(pid) for pids in before.values() for pid in pids.values()}
    time.sleep(seconds)
    used = {pid: cpu_time(pid) - earlier for pid, earlier in used.items()}
    took = time.monotonic() - began
    return [
        NodeLoad(
            node=node.name,
            state=", ".join(sorted(set(node.states().values()))),
            processes=[
                ProcessLoad(process, used[pid] / took, resident_bytes(pid))
                for process, pid in before[node.name].items()
            ],
        )
        for node in nodes
    ]


def _move(seen: Observations, lab: Lab, deed: str, began: float, ended: float, successor: Node) -> Move:
    other = lab.other(successor)
    inside = [change for change in seen.changes if began <= change.time < ended]
    taken = [change.time for change in inside if change.held and change.node == successor.name]
    given = [change.time for change in inside if not change.held and change.node == other.name]
    return Move(
        deed=deed,
        node=successor.name,
        taken_in=max(taken) - min(taken),
        given_up=max(given) - min(given) if deed != _CRASH else None,
        done=max(taken) - began,
        probe=figures.probe_figures(seen.client, began, ended),
    )
