"""The first page: both nodes side by side, their roles, figures of the last hour, and what happened on either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from hacore.node.event import Event
from hacore.node.snapshot import VipStatus
from hacore.web.charts import MEASURES, draw
from hacore.web.live import Feed, Region
from hacore.web.registry import Call, Route
from hacore.web.verdict import names
from hacore.web.watch import NodeView

if TYPE_CHECKING:
    from hacore.web.site import Site

#: Of the timeline.
EVENTS = 40
BAD = {"fault", "hook-failed", "check-failing", "kernel", "gate", "device", "reload-refused", "other master"}
NOTICE = {
    "refused",
    "worker",
    "demotion",
    "maintenance",
    "carp",
    "warning",
    "no successor",
    "address removed",
    "stalled",
}


class Row(NamedTuple):
    """A VIP, and what each node says of it; None where it has none such or never said anything."""

    name: str
    interface: str
    vhid: int
    addresses: list[str]
    cells: list[tuple[NodeView, VipStatus | None]]


class Entry(NamedTuple):
    """An event, `at` by this node's clock; `kind` is how it is drawn."""

    at: float
    node: str
    text: str
    kind: str


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    overview = Overview(site.watch.nodes_now)
    regions = [
        Region("roles", "_roles.html", overview.roles),
        Region("nodes", "_nodes.html", overview.nodes),
        Region("states", "_states.html", overview.states),
        Region("charts", "_charts.html", overview.charts),
        Region("timeline", "_timeline.html", overview.timeline),
    ]
    site.live.add(Feed("overview", regions))
    return [Route("GET", "/", show, "Overview", menu=10)]


async def show(call: Call) -> web.Response:
    """All of it."""
    return call.page("overview.html", feed="overview")


class Overview:
    """What the regions are rendered with; `nodes` gives the nodes as they are."""

    def __init__(self, nodes: Callable[[], list[NodeView]]) -> None:
        self._nodes = nodes

    def roles(self, _now: float) -> Mapping[str, Any]:
        """A row for each VIP."""
        nodes = self._nodes()
        return {"nodes": nodes, "vips": [_row(name, nodes) for name in names(nodes)]}

    def nodes(self, _now: float) -> Mapping[str, Any]:
        """The cards."""
        nodes = self._nodes()
        versions = {node.snapshot.node.version for node in nodes if node.snapshot is not None}
        masters = {
            node.name: node.snapshot is not None and all(vip.state == "MASTER" for vip in node.snapshot.vips)
            for node in nodes
        }
        return {"nodes": nodes, "mismatch": len(versions) > 1, "masters_all": masters}

    def states(self, _now: float) -> Mapping[str, Any]:
        """The figures of the table."""
        return {"nodes": self._nodes()}

    def charts(self, now: float) -> Mapping[str, Any]:
        """Of the last hour."""
        slots = [(node.name, node.hour.slots(now)) for node in self._nodes()]
        drawn = any(one for _name, one in slots)
        return {"charts": [draw(measure, slots, now) for measure in MEASURES] if drawn else []}

    def timeline(self, _now: float) -> Mapping[str, Any]:
        """The latest events of all nodes, newest first."""
        nodes = self._nodes()
        entries = [_entry(event, node) for node in nodes for event in node.events.values()]
        entries.sort(key=lambda one: one.at, reverse=True)
        return {
            "entries": entries[:EVENTS],
            "names": [node.name for node in nodes],
            "silent": [node.name for node in nodes if not node.is_known()],
        }


def _row(name: str, nodes: Sequence[NodeView]) -> Row:
    cells = [(node, _vip(node, name)) for node in nodes]
    first = next(vip for _node, vip in cells if vip is not None)
    return Row(name, first.interface, first.vhid, first.addresses, cells)


def _vip(node: NodeView, name: str) -> VipStatus | None:
    vips = node.snapshot.vips if node.snapshot is not None else []
    return next((vip for vip in vips if vip.name == name), None)


def _entry(event: Event, node: NodeView) -> Entry:
    return Entry(node.local(event.time), node.name, event.text or event.kind, _kind(event))


def _kind(event: Event) -> str:
    if event.kind == "transition":
        return {"MASTER": "taken", "BACKUP": "released"}.get(str(event.fields.get("new")), "notice")
    if event.kind in BAD:
        return "bad"
    if event.kind in NOTICE:
        return "notice"
    return "person" if event.kind == "web" else "plain"
