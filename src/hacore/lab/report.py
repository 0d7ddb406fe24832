"""Results as one structure (for `--json`) and as a table on the terminal: median and worst over all plays of a
scenario.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from hacore.lab import topology
from hacore.lab.laboratory import Lab
from hacore.lab.play import ScenarioRun
from hacore.lab.stage import PhaseFigures

if TYPE_CHECKING:
    from rich.table import Table


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


def make(lab: Lab, runs: Sequence[ScenarioRun], *, family: int, realtime: bool) -> Report:
    """The report of `runs`, with who holds the addresses in `lab` now."""
    return Report(
        profile=lab.record.profile,
        preempt=lab.record.preempt,
        family=family,
        realtime=realtime,
        rows=rows(runs),
        runs=list(runs),
        nodes={node.name: node.states() for node in lab.nodes.values()},
        addresses={name: sorted(held) for name, held in lab.holders().items()},
    )


def _count(spread: Spread) -> str:
    return "0" if not spread.worst else f"{spread.median:g} / {spread.worst:g}"


def time_text(seconds: float) -> str:
    """Seconds for people: milliseconds with a digit below 100 ms, without below 1 s, seconds above."""
    if seconds == 0:
        return "0"
    if seconds < 0.1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _times(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return (
        time_text(spread.worst)
        if spread.median == spread.worst
        else f"{time_text(spread.median)} / {time_text(spread.worst)}"
    )


def table(report: Report) -> Table:
    """The rows for the terminal; two values in a cell are median and worst."""
    from rich.table import Table

    marks = [f"profile {report.profile}", f"preempt {'on' if report.preempt else 'off'}", f"IPv{report.family}"]
    if not report.realtime:
        marks.append("[bold]without real time[/bold]")
    shown = Table(
        title=", ".join(marks), caption="two values: median / worst", title_justify="left", caption_justify="left"
    )
    shown.add_column("scenario")
    for heading in (
        "failed over",
        "longest gap",
        "lost",
        "doubled",
        "both held",
        "both forwarded",
        "dead forwarded",
        "dead held",
    ):
        shown.add_column(heading, justify="right")
    for row in report.rows:
        name = row.scenario if row.phase == row.scenario else f"{row.scenario}: {row.phase}"
        moved = "" if row.failed_over is None else f"{row.failed_over} of {row.plays}"
        if row.failed_over is not None and row.failed_over < row.plays:
            moved = f"[bold red]{moved}[/bold red]"
        shown.add_row(
            name,
            moved,
            _times(row.gap),
            _count(row.lost),
            _count(row.doubled),
            _times(row.both_held),
            _times(row.both_forwarded),
            _times(row.dead_forwarded),
            _times(row.dead_held),
        )
    return shown


def holders_text(states: dict[str, dict[str, str]], addresses: dict[str, list[str]]) -> list[str]:
    """One line a node: what it says it is, and which virtual addresses its kernel has."""
    lines = []
    for node in topology.NODES:
        told = ", ".join(f"{vip} {state}" for vip, state in states.get(node, {}).items()) or "does not answer"
        lines.append(f"{node}: {told}; kernel has {', '.join(addresses.get(node, [])) or 'none of the addresses'}")
    return lines
