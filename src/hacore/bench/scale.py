"""`hacore bench scale`: a pair with more and more VHIDs, each advertised once a second, by turns with keepalived.

Of each size: how long until the last VHID has its MASTER, what the idle nodes take, how late adverts are, and how long
it takes to move everything, planned and after a crash. Processor time is taken while nobody watches the wire, for each
observer's copy of an advert is charged to the sender.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hacore.bench import machine
from hacore.bench.keepalived import KeepalivedNode
from hacore.bench.meters import wait
from hacore.bench.result import OWN, Parameters
from hacore.bench.running import Part, Running, Told
from hacore.bench.samples import Samples
from hacore.bench.usage import Usage
from hacore.errors import HacoreError
from hacore.lab import capture, faults, figures, laboratory, record, topology
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.lab.observers import Recording

PERCENTILES = {50: "50 %", 99: "99 %", 100: "worst"}
_INTERVAL = 1.0
_PATIENCE = 120.0
_CALM = 2.0
_TICK = 0.05


class Unsettled(HacoreError):
    """The pair did not come to the state that a measurement needs."""


class ScaleSubject(NamedTuple):
    """A program whose adverts are a second apart."""

    name: str
    kind: type[Node]
    profile: str
    programs: tuple[str, ...] = ()


SUBJECTS = (
    ScaleSubject(OWN, Node, "classic"),
    ScaleSubject("keepalived", KeepalivedNode, "1", ("keepalived",)),
)


class WholeNode(Node):
    """A node with all its workers: election, states, and control with the status page."""

    def configure(
        self, profile: str, preempt: bool, password: str, vips: Sequence[topology.Vip], *, states: bool = False
    ) -> None:
        """The settings of the lab, and what the control worker needs."""
        super().configure(profile, preempt, password, vips, states=states)
        place = topology.NODES.index(self.name) + 1
        with open(self.settings, "a", encoding="utf-8") as file:
            file.write(f'\n[control]\nlisten = "10.9.0.{place}:8117"\n\n[web]\nlisten = "127.0.0.1:8118"\n')


WHOLE = (
    ScaleSubject(OWN, WholeNode, "classic"),
    ScaleSubject("keepalived", KeepalivedNode, "1", ("keepalived", "conntrackd")),
)


class Plan(NamedTuple):
    """What is measured: every size `repeat` times, for so many seconds each; whole: also an idle node with all its
    workers.
    """

    subjects: Sequence[ScaleSubject]
    sizes: Sequence[int]
    repeat: int
    seconds: float
    whole: bool


def chosen(without: Collection[str], whole: bool) -> list[ScaleSubject]:
    """All subjects but those of the programs in `without`. MissingProgram where one of them cannot run; `whole`: also
    where one cannot run with all its workers.
    """
    found = [each for each in SUBJECTS if not set(each.programs) & set(without)]
    names = {subject.name for subject in found}
    for each in (*found, *(each for each in WHOLE if whole and each.name in names)):
        for name in each.programs:
            machine.program(name)
    return found


def needed(plan: Plan) -> list[ScaleSubject]:
    """Everything that runs, also for what is measured of a whole node."""
    names = {subject.name for subject in plan.subjects}
    return [*plan.subjects, *(each for each in WHOLE if plan.whole and each.name in names)]


def parts(plan: Plan, running: Running) -> Iterator[Part]:
    """Everything that is to be measured, in order."""
    for number in range(plan.repeat):
        turn = f"{number + 1} of {plan.repeat}"
        for size in plan.sizes:
            for subject in plan.subjects:
                yield Part(
                    f"{subject.name}: {size} VHIDs, {turn}",
                    functools.partial(_settled, subject, size, plan.seconds, running),
                )
        for subject in WHOLE if plan.whole else ():
            if subject.name in [each.name for each in plan.subjects]:
                yield Part(
                    f"{subject.name}: all of an idle node, {turn}",
                    functools.partial(_measure_whole, subject, plan.seconds, running.into),
                )


def _settled(subject: ScaleSubject, size: int, seconds: float, running: Running, say: Told) -> None:
    """One size of one subject. A pair that does not settle is a finding: the run goes on, and is incomplete."""
    try:
        _measure(subject, size, seconds, running.into, say)
    except Unsettled as error:
        running.lack(f"{subject.name}: {size} VHIDs", str(error))


def _measure(subject: ScaleSubject, size: int, seconds: float, into: Samples, say: Told) -> None:
    segments = topology.SEGMENTS if size > topology.MOST_VIPS else topology.SIDES
    vips = topology.many_vips(size, (4,), segments)
    addresses = topology.addresses_of(vips)
    parameters: Parameters = {"vhids": size}

    def add(name: str, unit: str, value: float) -> None:
        into.add(name, unit, "less", subject.name, parameters, value)

    directory = record.directory_of(f"bench-{secrets.token_hex(3)}", record.base_directory())
    with laboratory.temporary(directory, profile=subject.profile, preempt=True, start=False, kind=subject.kind) as lab:
        if segments is topology.SEGMENTS:
            topology.add_segments(lab.paths)
        lab.configure(subject.profile, True, vips)
        master, backup = lab.preferred, lab.other(lab.preferred)
        say(f"{subject.name}: {size} VHIDs start")
        with Recording(lab.paths, mark=lab.directory, addresses=addresses) as seen:
            began = time.monotonic()
            for node in lab.nodes.values():
                lab.start(node)
            _wait(seen, lab, master, addresses)
            add("from start to the last MASTER", "s", _last(seen, master, began) - began)
        say(f"{subject.name}: {size} VHIDs idle")
        for role, usage in _usage([master, backup], seconds).items():
            add(f"processor, {role}", "cores", usage.processor)
            add(f"memory, {role}", "bytes", usage.resident_bytes)
        late = _lateness(lab, master, vips, max(seconds, 5.0))
        if len(late):
            for name, value in zip(PERCENTILES.values(), np.percentile(late, list(PERCENTILES)), strict=True):
                add(f"advert late, {name}", "s", float(value))
        with Recording(lab.paths, mark=lab.directory, addresses=addresses) as seen:
            _wait(seen, lab, master, addresses)
            say(f"{subject.name}: {size} VHIDs are moved")
            add("planned failover", "s", _move(seen, lab, backup, addresses, lambda: _stop(master)))
            wait(lambda: not master.running(), _PATIENCE, f"{master.name} ends", _TICK)
            lab.start(master)
            _wait(seen, lab, master, addresses)
            crashed = _move(seen, lab, backup, addresses, lambda: faults.crash(master.processes()), dead=True)
            add("failover after a crash", "s", crashed)


def _measure_whole(subject: ScaleSubject, seconds: float, into: Samples, _say: Told) -> None:
    directory = record.directory_of(f"bench-{secrets.token_hex(3)}", record.base_directory())
    with laboratory.temporary(directory, profile=subject.profile, preempt=True, start=False, kind=subject.kind) as lab:
        lab.configure(subject.profile, True, states=True)
        for node in lab.nodes.values():
            lab.start(node)
        _await_calm(lab)
        usages = _usage([lab.preferred, lab.other(lab.preferred)], max(seconds, 10.0))
        for role, usage in usages.items():
            of: Parameters = {"all workers": True}
            into.add(f"processor, {role}", "cores", "less", subject.name, of, usage.processor)
            into.add(f"memory, {role}", "bytes", "less", subject.name, of, usage.resident_bytes)
            into.add(f"memory without what is shared, {role}", "bytes", "less", subject.name, of, usage.own_bytes)


def _await_calm(lab: Lab) -> None:
    def settled() -> bool:
        replicate = all(node.replicates() for node in lab.nodes.values())
        return replicate and "MASTER" in lab.preferred.states().values()

    wait(settled, _PATIENCE, "the pair settles", _TICK)
    time.sleep(_CALM)


def _usage(pair: Sequence[Node], seconds: float) -> dict[str, Usage]:
    """What the idle nodes take, by what they are: "MASTER", "BACKUP"."""
    before = {node.name: Usage.of(node.processes()) for node in pair}
    time.sleep(seconds)
    after = {node.name: Usage.of(node.processes()) for node in pair}
    return {
        role: after[node.name].since(before[node.name]) for role, node in zip(("MASTER", "BACKUP"), pair, strict=True)
    }


def _lateness(lab: Lab, master: Node, vips: Sequence[topology.Vip], seconds: float) -> figures.Times:
    """How late the IPv4 adverts of `master` are, all VHIDs together."""
    found: list[figures.Times] = []
    switch: Path = lab.paths[topology.SWITCH]
    with contextlib.ExitStack() as stack:
        rings = {}
        for segment in dict.fromkeys(vip.interface for vip in vips):
            rings[segment] = capture.Ring(switch, f"{segment}-{master.name}", 0, arriving=True)
            stack.callback(rings[segment].close)
        time.sleep(seconds)
        for ring in rings.values():
            rows = ring.drain()
            rows = rows[(rows["kind"] == capture.ADVERT) & (rows["family"] == 4)]
            found += [
                figures.lateness(np.sort(rows["time"][rows["vhid"] == vhid]), _INTERVAL)
                for vhid in np.unique(rows["vhid"])
            ]
    return np.concatenate([np.zeros(0), *found])


def _move(
    seen: Recording,
    lab: Lab,
    successor: Node,
    addresses: set[str],
    deed: Callable[[], object],
    *,
    dead: bool = False,
) -> float:
    """Seconds from the deed to the last address that `successor` has."""
    began = time.monotonic()
    deed()
    _wait(seen, lab, successor, addresses, alone=not dead)
    return _last(seen, successor, began) - began


def _stop(node: Node) -> None:
    assert node.supervisor is not None
    faults.signal_all([node.supervisor.pid], signal.SIGTERM)


def _last(seen: Recording, node: Node, began: float) -> float:
    """When `node` got the last of its addresses since `began`."""
    changes = seen.observations().changes
    return max(change.time for change in changes if change.node == node.name and change.held and change.time >= began)


def _wait(seen: Recording, lab: Lab, expected: Node, addresses: set[str], *, alone: bool = True) -> None:
    """Until `expected` has held every address for a while and, where it has to be `alone`, the other none."""
    deadline = time.monotonic() + _PATIENCE
    calm = time.monotonic()
    other = lab.other(expected).name
    while time.monotonic() - calm < _CALM:
        time.sleep(_TICK)
        seen.poll()
        if seen.held[expected.name] != addresses or (alone and seen.held[other]):
            calm = time.monotonic()
        if time.monotonic() > deadline:
            raise Unsettled(f"{expected.name} holds {len(seen.held[expected.name])} of {len(addresses)} addresses")
