"""What `hacore status --watch` looks like: the nodes side by side where there is room, else one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hacore.cli.status_view import Seen, view
from hacore.cli.terminal import duration, folded, moment
from hacore.node.event import Event

#: Columns from which two nodes stand side by side.
SIDE_COLUMNS = 150
GAP = 3


class Known:
    """A node and what is known of it; `sync` is how its sections compare with this node's, as in `config status`."""

    def __init__(self, name: str, *, here: bool) -> None:
        self.name, self.here = name, here
        self.seen: Seen | None = None
        self.problem = ""
        self.sync: dict[str, Any] | None = None
        self.compared = 0.0

    @property
    def vouched(self) -> bool:
        """Whether somebody vouches for the states of its VIPs."""
        return self.seen is not None and not self.seen.fault


def pair_view(nodes: Sequence[Known], events: Sequence[Event], now: float, width: int) -> RenderableType:
    """Everything, for a terminal of `width` columns at the unix time `now`."""
    return Group(*_parts(nodes, events, now, width))


def _parts(nodes: Sequence[Known], events: Sequence[Event], now: float, width: int) -> Iterator[RenderableType]:
    for level, text in findings(nodes):
        yield folded(Text(text, style={"bad": "bold red", "notice": "yellow"}.get(level, "green")), width, Text(""))
    yield Text()
    columns = len(nodes) if len(nodes) > 1 and width >= SIDE_COLUMNS else 1
    each = (width - GAP * (columns - 1)) // columns
    shown = [_node(node, now, each) for node in nodes]
    if columns == 1:
        for number, one in enumerate(shown):
            if number:
                yield Rule(style="dim")
            yield one
    else:
        grid = Table.grid(padding=(0, GAP, 0, 0), expand=False)
        for _ in nodes:
            grid.add_column(width=each)
        grid.add_row(*shown)
        yield grid
    if events:
        yield Text()
        yield Text("events of this node", style="dim")
        for event in reversed(events):
            yield folded(Text(event.text or event.kind), width, Text(f"{moment(event.time)}  ", style="dim"))


def findings(nodes: Sequence[Known]) -> list[tuple[str, str]]:
    """What is to be known first: ("bad" | "notice" | "good", sentence)."""
    found = []
    masters: dict[str, list[str]] = {}
    versions = {}
    for node in nodes:
        if node.seen is not None:
            versions[node.name] = node.seen.snapshot.node.version
            for vip in node.seen.snapshot.vips:
                held = masters.setdefault(vip.name, [])
                if node.vouched and vip.state == "MASTER":
                    held.append(node.name)
        if not node.vouched:
            why = node.seen.fault if node.seen is not None else node.problem or "no word yet"
            found.append(("bad", f"{node.name}: NOT KNOWN: {why}"))
    for vip_name, held in masters.items():
        if len(held) > 1:
            found.append(("bad", f"{vip_name} has {len(held)} MASTERs: {', '.join(held)}"))
        elif not held and all(node.vouched for node in nodes):
            found.append(("bad", f"{vip_name} has no MASTER"))
    if len({*versions.values()}) > 1:
        found.append(("notice", "versions differ: " + ", ".join(f"{name} {one}" for name, one in versions.items())))
    if not found:
        by_node = {node.name: [vip for vip, held in masters.items() if node.name in held] for node in nodes}
        found.append(
            ("good", "; ".join(f"{name}: {_role(vips)}" for name, vips in by_node.items()) or "no node is known")
        )
    return found


def _role(vips: Sequence[str]) -> str:
    return f"MASTER of {', '.join(vips)}" if vips else "stands by"


def _node(node: Known, now: float, width: int) -> RenderableType:
    if node.seen is None:
        return Group(Text(node.name, style="bold"), folded(Text(node.problem or "no word yet", style="red"), width))
    return Group(view(node.seen, now, width), *_sync(node, now, width))


def _sync(node: Known, now: float, width: int) -> Iterator[RenderableType]:
    sync = node.sync
    if sync is None:
        return
    yield Text(f"sections, compared {duration(now - node.compared)} ago", style="dim")
    if problem := sync.get("problem"):
        yield folded(Text(str(problem["message"]), style="red"), width)
        return
    for name, alike in sync["in_sync"].items():
        yield Text(f"{name}  ").append("in sync" if alike else "not in sync", style="green" if alike else "yellow")
