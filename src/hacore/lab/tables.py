"""Reports on the terminal, in 80 columns."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hacore.lab import topology
from hacore.lab.busy import BusyFigures
from hacore.lab.figures import Lateness
from hacore.lab.many import ManyFigures
from hacore.lab.report import Report, Spread

_LEGEND = (
    "both: the two nodes at once; dead: a node killed or frozen here",
    "held: had an address; sent: passed datagrams on",
)
_REPEATED = "longest gap, lost: median / worst; the others: worst"
_LATE = 0.01
"""A probe that sends nothing for so long, in seconds, makes a gap that is not the pair's."""


def time_text(seconds: float) -> str:
    """Seconds for people: milliseconds with a digit below 100 ms, without below 1 s, seconds above."""
    number, unit = _scaled(seconds, seconds)
    return f"{number} {unit}" if seconds else "0"


def _scaled(seconds: float, largest: float) -> tuple[str, str]:
    if largest < 0.1:
        return f"{seconds * 1e3:.1f}", "ms"
    return (f"{seconds * 1e3:.0f}", "ms") if largest < 1 else (f"{seconds:.2f}", "s")


def _times(spread: Spread) -> str:
    if spread.median == spread.worst:
        return time_text(spread.worst)
    number, unit = _scaled(spread.median, spread.worst)
    return f"{number} / {_scaled(spread.worst, spread.worst)[0]} {unit}"


def _count(spread: Spread) -> str:
    if not spread.worst:
        return "0"
    return f"{spread.worst:g}" if spread.median == spread.worst else f"{spread.median:g} / {spread.worst:g}"


def _worst(spread: Spread | None) -> str:
    return "" if spread is None else time_text(spread.worst)


def _plain(title: str, caption: str | None = None) -> Table:
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def phase_name(scenario: str, phase: str) -> str:
    """How a phase is called where its scenario is not seen."""
    return scenario if phase == scenario else f"{scenario}: {phase}"


def scenario_table(report: Report, *, legend: bool = True) -> Table:
    """What the scenarios cost, a row for each of their phases; `legend`: with what the headings mean below."""
    marks = [f"Profile {report.profile}", f"preempt {'on' if report.preempt else 'off'}", f"IPv{report.family}"]
    if not report.realtime:
        marks.append("without real time")
    repeated = any(row.plays > 1 for row in report.rows)
    doubled = any(row.doubled.worst for row in report.rows)
    shown = _plain(
        ", ".join(marks),
        "\n".join([*(_LEGEND if legend else []), *([_REPEATED] if repeated else []), *_busy_machine(report)]),
    )
    shown.add_column("scenario", no_wrap=True)
    headings = ["failed\nover", "longest\ngap", "lost", "both\nheld", "both\nsent", "dead\nsent", "dead\nheld"]
    for heading in [*headings, *(["doubled"] if doubled else [])]:
        shown.add_column(heading, justify="right")
    for row in report.rows:
        moved = "" if row.failed_over is None else f"{row.failed_over}/{row.plays}"
        if row.failed_over is not None and row.failed_over < row.plays:
            moved = f"[bold red]{moved}[/bold red]"
        shown.add_row(
            phase_name(row.scenario, row.phase),
            moved,
            _times(row.gap),
            _count(row.lost),
            *(_worst(each) for each in (row.both_held, row.both_forwarded, row.dead_forwarded, row.dead_held)),
            *([_count(row.doubled)] if doubled else []),
        )
    return shown


def _busy_machine(report: Report) -> list[str]:
    """A remark where the machine was too busy for the probe itself, so that gaps are not all the pair's."""
    paces = [phase.probe.pace for run in report.runs for phase in run.phases]
    late = [pace for pace in paces if pace > _LATE]
    if not late:
        return []
    return [
        f"a busy machine: in {len(late)} of {len(paces)} phases the client itself paused, up to {time_text(max(late))}"
    ]


def busy_table(busy: BusyFigures) -> Table:
    """Adverts beside the bare timer."""
    shown = _plain(
        f"{busy.seconds:.0f} s with every core busy ({busy.burden} processes): {busy.failovers} failovers",
        f"latest advert {_signed(busy.beyond_timer)} than the latest waking of the timer; "
        f"client: {busy.probe.lost} of {busy.probe.sent} datagrams lost, longest gap {time_text(busy.probe.gap)}",
    )
    shown.add_column("lateness")
    for heading in ("number", "median", "99 %", "99.9 %", "worst"):
        shown.add_column(heading, justify="right")
    rows: list[tuple[str, Lateness]] = [("adverts at the wire", busy.adverts), ("bare timer, SCHED_RR", busy.timer)]
    for name, late in rows:
        moments = (late.median, late.p99, late.p999, late.worst)
        shown.add_row(name, f"{late.count}", *(f"{moment * 1e3:.3f} ms" for moment in moments))
    return shown


def _signed(seconds: float) -> str:
    return f"{time_text(abs(seconds))} {'later' if seconds >= 0 else 'earlier'}"


def many_tables(many: ManyFigures) -> list[Table]:
    """The idle nodes, and the moves."""
    idle = _plain(
        f"{many.vips} VIPs with {many.addresses} addresses, advbase {many.advbase}: idle for {many.seconds:.0f} s"
    )
    for heading in ("node", "state", "process"):
        idle.add_column(heading)
    idle.add_column("share of a core", justify="right")
    idle.add_column("resident", justify="right")
    for load in many.loads:
        for each in load.processes:
            idle.add_row(load.node, load.state, each.process, f"{each.cpu:.2%}", _megabytes(each.resident_bytes))
        idle.add_row(load.node, load.state, "both", f"{load.cpu:.2%}", _megabytes(load.resident_bytes))
    moves = _plain(
        "all of them moved", "taken in, given up: from the first address to the last; all there: since the deed"
    )
    moves.add_column("deed", no_wrap=True)
    for heading in ("to", "taken in", "given up", "all there", "client's gap", "lost"):
        moves.add_column(heading, justify="right")
    for move in many.moves:
        moves.add_row(
            move.deed,
            move.node,
            time_text(move.taken_in),
            "" if move.given_up is None else time_text(move.given_up),
            time_text(move.done),
            time_text(move.probe.gap),
            f"{move.probe.lost}",
        )
    return [idle, moves]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def tables(report: Report) -> list[Table]:
    """Everything that the report holds."""
    shown = [scenario_table(report)] if report.rows else []
    shown += [busy_table(busy) for busy in report.busy]
    return shown + [table for many in report.many for table in many_tables(many)]


def holders_text(states: dict[str, dict[str, str]], addresses: dict[str, list[str]]) -> list[str]:
    """One line a node: what it says it is, and which virtual addresses its kernel has."""
    every = topology.vip_addresses()
    lines = []
    for node in topology.NODES:
        told = ", ".join(f"{vip} {state}" for vip, state in states.get(node, {}).items()) or "does not answer"
        held = addresses.get(node, [])
        has = f"all {len(every)} addresses" if set(held) == every else ", ".join(held) or "none of the addresses"
        lines.append(f"{node}: {told}; its kernel has {has}")
    return lines
