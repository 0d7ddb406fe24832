"""`hacore bench failover`: the lab's scenarios, played by turns by hacore and by what people use now.

A turn is a lab of its own for one subject, in which it plays every scenario some times; then it is the next one's turn.
Times are read outside the nodes, by the same observers for all.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hacore.bench.result import Parameters, Series
from hacore.bench.room import room_for
from hacore.bench.running import Part, Running, Told
from hacore.bench.samples import Better, Samples
from hacore.bench.subjects import Subject
from hacore.lab import laboratory, play, record
from hacore.lab.flows import FlowFigures
from hacore.lab.play import ScenarioRun
from hacore.lab.scenarios import SCENARIOS
from hacore.lab.stage import PhaseFigures

AT_ONCE = 5
"""So often a subject plays each scenario before the next subject's turn."""
_OWN = 10_000
"""Connections that the kernel has beside those of the load, with room to spare."""


class Load(NamedTuple):
    """What the pair carries while it fails over: flows through source NAT, and idle connections in the tables."""

    flows: int = 0
    fill: int = 0

    @property
    def any(self) -> bool:
        """Whether there is a load at all."""
        return bool(self.flows or self.fill)


class Plan(NamedTuple):
    """What is played: every scenario `repeat` times by every subject under every load."""

    subjects: Sequence[Subject]
    scenarios: Sequence[str]
    loads: Sequence[Load]
    repeat: int
    family: int = 4

    def turns(self) -> Iterator[Turn]:
        """The turns, in order."""
        for load in self.loads:
            for first in range(0, self.repeat, AT_ONCE):
                for subject in self.subjects:
                    if subject.replicates or not load.any:
                        yield Turn(load, subject, range(first, min(first + AT_ONCE, self.repeat)))


class Turn(NamedTuple):
    """What one subject plays in a lab of its own: each scenario so often, by the numbers of the plays from 0."""

    load: Load
    subject: Subject
    numbers: range


def measure(plan: Plan, running: Running, tell: Told) -> None:
    """Play everything.

    HacoreError where the kernel does not take the load, before anything is played.
    """
    most = max((load.fill + load.flows for load in plan.loads), default=0)
    with room_for(most * 5 // 4 + _OWN):
        running.carry_out([_part(plan, turn, running) for turn in plan.turns()], tell)


def _part(plan: Plan, turn: Turn, running: Running) -> Part:
    plays = f"play {turn.numbers[0] + 1}"
    if len(turn.numbers) > 1:
        plays = f"plays {turn.numbers[0] + 1} to {turn.numbers[-1] + 1}"
    return Part(
        f"{turn.subject.name}: {plays} of {plan.repeat}{_under(turn.load)}", lambda say: _turn(plan, turn, running, say)
    )


def _turn(plan: Plan, turn: Turn, running: Running, say: Told) -> None:
    load, subject, numbers = turn
    directory = record.directory_of(f"bench-{secrets.token_hex(3)}", record.base_directory())
    with laboratory.temporary(
        directory, profile=subject.profile, preempt=True, states=load.any, kind=subject.kind
    ) as lab:
        play.heal(lab)
        for scenario in plan.scenarios:
            for number in numbers if subject.plays(scenario) else ():
                say(f"{subject.name}: {scenario}, {number + 1} of {plan.repeat}{_under(load)}")
                played = play.play(lab, SCENARIOS[scenario], family=plan.family, flows=load.flows, fill=load.fill)
                _take(played, subject, load, running.into)
                if played.error is not None:
                    running.notes.append(f"{subject.name}, {scenario}{_under(load)}: {played.error}")


def _under(load: Load) -> str:
    return f", {load.flows} flows and {load.fill} connections" if load.any else ""


def _take(played: ScenarioRun, subject: Subject, load: Load, into: Samples) -> None:
    moves = iter(played.flows_after_moves)
    last = len(played.phases) - 1
    for number, phase in enumerate(played.phases):
        parameters: Parameters = {"scenario": played.scenario, "phase": phase.name}
        if load.any:
            parameters |= {"flows": load.flows, "fill": load.fill}

        def add(name: str, unit: str, value: float, better: Better = "less", of: Parameters = parameters) -> None:
            into.add(name, unit, better, subject.name, of, value)

        if phase.must_move:
            add("failed over", "1", float(phase.moved), "more")
            if phase.takeover is not None:
                add("takeover", "s", phase.takeover)
        _probe(phase, add)
        flows = next(moves, None) if phase.must_move else played.flows if number == last else None
        if flows is not None:
            add("flows lost", "1", _dead(flows))


def _probe(phase: PhaseFigures, add: Callable[[str, str, float], None]) -> None:
    add("outage", "s", phase.probe.wait)
    add("lost", "1", phase.probe.lost)
    add("both held", "s", phase.both_held)
    if phase.dead_forwarded is not None:
        add("dead forwarded", "s", phase.dead_forwarded)
    add("probe late", "s", phase.probe.pace)


def _dead(flows: FlowFigures) -> float:
    return float(sum(kind.total - kind.alive for kind in flows.kinds.values()))


def distributions(into: Samples) -> list[Series]:
    """For each scenario and subject: the share of plays whose outage was at most so long."""
    found = []
    for figure in into.figures():
        if figure.name == "outage":
            ordered = sorted(figure.samples)
            found.append(
                Series(
                    name="outage, share of plays",
                    subject=figure.subject,
                    parameters=figure.parameters,
                    x_name="outage",
                    x_unit="s",
                    unit="1",
                    x=ordered,
                    y=[float(share) for share in np.arange(1, len(ordered) + 1) / len(ordered)],
                )
            )
    return found
