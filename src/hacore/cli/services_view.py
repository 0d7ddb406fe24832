"""What `hacore services` looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.cli.terminal import duration
from hacore.services.service import Action, Outcome, Report, State

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {
    State.RUNNING: "green",
    State.STARTING: "yellow",
    State.STOPPING: "yellow",
    State.STOPPED: "",
    State.FAILED: "bold red",
    State.MISSING: "bold red",
    State.UNKNOWN: "bold red",
}
PAST = {Action.START: "started", Action.STOP: "stopped", Action.RESTART: "restarted"}


class Listed(Struct):
    """The answer of the node."""

    node: str
    now: float
    services: list[Report]


def outcome_line(outcome: Outcome) -> str:
    """One outcome in one line."""
    if outcome.skipped:
        return f"{outcome.id}: skipped: {outcome.message}"
    if outcome.ok:
        return f"{outcome.id}: {PAST[outcome.action]} in {duration(outcome.duration)}"
    return f"{outcome.id}: not {PAST[outcome.action]}: {outcome.message}"


def view(listed: Listed) -> RenderableType:
    """A table, and below it what is wrong."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not listed.services:
        return Text(f"{listed.node}: the settings name no [[service]]")
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("SERVICE", "STATE", "FOR", "FOLLOWS", "DESCRIPTION"):
        table.add_column(heading, no_wrap=heading != "DESCRIPTION", header_style="bold")
    for one in listed.services:
        since = "" if one.since is None else duration(listed.now - one.since)
        table.add_row(one.id, Text(one.state, style=STYLES[one.state]), since, _follows(one), one.description)
    return Group(Text(listed.node, style="bold"), table, *_troubles(listed))


def _follows(one: Report) -> str:
    if not one.follows:
        return ""
    here = {None: "not known yet", True: "here", False: "elsewhere"}[one.wanted]
    return f"{one.follows} ({here})"


def _troubles(listed: Listed) -> Iterator[RenderableType]:
    from rich.text import Text

    for one in listed.services:
        if one.problem:
            yield Text(f"{one.id}: {one.problem}", style="yellow")
        if one.state in (State.FAILED, State.MISSING, State.UNKNOWN):
            yield Text(f"{one.id}: {one.detail}", style="red")
            for line in one.log:
                yield Text(f"  {line}")
