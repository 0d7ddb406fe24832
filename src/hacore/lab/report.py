"""Results as one structure, as `--json` shows it: median and worst over all plays of a scenario, and every play."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from hacore.lab.busy import BusyFigures
from hacore.lab.laboratory import Lab
from hacore.lab.many import ManyFigures
from hacore.lab.play import ScenarioRun
from hacore.lab.stage import PhaseFigures


class Spread(msgspec.Struct, frozen=True):
    """The middle and the worst of a figure over several plays."""

    median: float
    worst: float


class Row(msgspec.Struct, kw_only=True):
    """One phase of one scenario over all its plays. Times in seconds; None where the figure has no meaning there."""

    scenario: str
    phase: str
    plays: int
    failed_over: int | None
    sent: int
    lost: Spread
    doubled: Spread
    reordered: Spread
    gap: Spread
    pace: Spread
    takeover: Spread | None
    both_held: Spread
    both_held_alive: Spread
    both_forwarded: Spread
    both_advertised: Spread
    dead_forwarded: Spread | None
    dead_held: Spread | None


class Report(msgspec.Struct, kw_only=True):
    """Everything that `lab run` found out."""

    profile: str
    preempt: bool
    family: int
    realtime: bool
    rows: list[Row]
    runs: list[ScenarioRun]
    busy: list[BusyFigures] = []
    many: list[ManyFigures] = []
    nodes: dict[str, dict[str, str]]
    """The state of each VIP at the end, as each node tells it."""
    addresses: dict[str, list[str]]
    """The virtual addresses in each node's kernel at the end."""


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), max(known)) if known else None


def _sure(values: Iterable[float]) -> Spread:
    known = list(values)
    return Spread(statistics.median(known), max(known))


def rows(runs: Sequence[ScenarioRun]) -> list[Row]:
    """One row for each phase, in the order they were first played."""
    grouped: dict[tuple[str, str], list[PhaseFigures]] = {}
    for run in runs:
        for phase in run.phases:
            grouped.setdefault((run.scenario, phase.name), []).append(phase)
    return [_row(scenario, name, phases) for (scenario, name), phases in grouped.items()]


def _row(scenario: str, name: str, phases: list[PhaseFigures]) -> Row:
    return Row(
        scenario=scenario,
        phase=name,
        plays=len(phases),
        failed_over=sum(phase.moved for phase in phases) if phases[0].must_move else None,
        sent=sum(phase.probe.sent for phase in phases),
        lost=_sure(phase.probe.lost for phase in phases),
        doubled=_sure(phase.probe.doubled for phase in phases),
        reordered=_sure(phase.probe.reordered for phase in phases),
        gap=_sure(phase.probe.gap for phase in phases),
        pace=_sure(phase.probe.pace for phase in phases),
        takeover=_spread(phase.takeover for phase in phases) if phases[0].must_move else None,
        both_held=_sure(phase.both_held for phase in phases),
        both_held_alive=_sure(phase.both_held_alive for phase in phases),
        both_forwarded=_sure(phase.both_forwarded for phase in phases),
        both_advertised=_sure(phase.both_advertised for phase in phases),
        dead_forwarded=_spread(phase.dead_forwarded for phase in phases),
        dead_held=_spread(phase.dead_held for phase in phases),
    )


def make(
    lab: Lab,
    runs: Sequence[ScenarioRun],
    *,
    family: int,
    realtime: bool,
    busy: Sequence[BusyFigures] = (),
    many: Sequence[ManyFigures] = (),
) -> Report:
    """The report of all that was played and measured, with who holds the addresses in `lab` now."""
    return Report(
        profile=lab.record.profile,
        preempt=lab.record.preempt,
        family=family,
        realtime=realtime,
        rows=rows(runs),
        runs=list(runs),
        busy=list(busy),
        many=list(many),
        nodes={node.name: node.states() for node in lab.nodes.values()},
        addresses={name: sorted(held) for name, held in lab.holders().items()},
    )
