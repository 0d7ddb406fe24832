"""Virtual IPs: who holds them, and what moves them from or to this node, each with what it will do first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web
from msgspec import Struct

from hacore.node import maintenance
from hacore.web.foresight import Deed, effects, goes
from hacore.web.live import Feed, Region
from hacore.web.registry import Call, Route
from hacore.web.verdict import names

if TYPE_CHECKING:
    from hacore.web.site import Site


class Wording(NamedTuple):
    """How a deed is named: its button, its heading, what it means, and its line in the event history."""

    button: str
    heading: str
    meaning: str
    recorded: str


WORDINGS: dict[Deed, Wording] = {
    "maintenance-enter": Wording(
        "Enter maintenance", "Put {node} into maintenance?",
        "{node} is demoted by 240, hands over every VIP that another node can take, and takes none back: also after a "
        "reboot, until maintenance is left.",
        "enters maintenance",
    ),
    "maintenance-leave": Wording(
        "Leave maintenance", "Take {node} out of maintenance?", "{node} takes part again.", "leaves maintenance"
    ),
    "carp-disable": Wording(
        "Disable CARP", "Disable CARP on {node}?",
        "{node} gives up every address at once, whether another node takes it or not, and stands by for none, until "
        "CARP is enabled or the node is started again.",
        "disables CARP",
    ),
    "carp-enable": Wording("Enable CARP", "Enable CARP on {node}?", "{node} takes part again.", "enables CARP"),
    "demotion-reset": Wording(
        "Reset the demotion", "Reset the demotion of {node}?",
        "The reasons that somebody gave by hand go, and that adverts could not be sent. Failing checks, missing links "
        "and maintenance stay: they end with their cause.",
        "resets the demotion",
    ),
}  # fmt: skip


class OneDeed(Struct, kw_only=True):
    """What is to be done."""

    deed: Deed


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    part = Vips(site)
    site.live.add(
        Feed("vips", [Region("vips", "_vips.html", part.table), Region("here", "_vips_here.html", part.here)])
    )
    return [
        Route("GET", "/vips", part.show, "Virtual IPs", menu=30),
        Route("GET", "/vips/{deed}", part.confirm, "Virtual IPs", needs="administrator", parameters=OneDeed),
        Route("POST", "/vips/{deed}", part.do, "Virtual IPs", needs="administrator", parameters=OneDeed),
    ]


async def carry_out(site: Site, deed: Deed) -> None:
    """As the commands of the same names do it: the flag is on the disk before the node is told."""
    bus, state_dir = site.worker.bus, site.worker.state_dir
    if deed == "maintenance-enter":
        await asyncio.to_thread(maintenance.enter, state_dir)
        await bus.request("maintenance", enter=True)
    elif deed == "maintenance-leave":
        await asyncio.to_thread(maintenance.leave, state_dir)
        await bus.request("maintenance", enter=False)
    elif deed == "demotion-reset":
        await bus.request("demotion", action="reset")
    else:
        await bus.request("carp", enable=deed == "carp-enable")


class Vips:
    """The page."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def table(self, _now: float) -> Mapping[str, Any]:
        """All VIPs on all nodes."""
        nodes = self._site.watch.nodes
        found = []
        for name in names(nodes):
            each = [
                (node, next((vip for vip in node.snapshot.vips if vip.name == name), None) if node.snapshot else None)
                for node in nodes
            ]
            found.append((next(vip for _node, vip in each if vip is not None), each))
        return {"rows": found, "nodes": nodes}

    def here(self, _now: float) -> Mapping[str, Any]:
        """This node: what demotes it, and what can be done."""
        node = self._site.watch.nodes[0]
        resettable = goes(node.snapshot.node) if node.snapshot is not None else {}
        return {"node": node, "resettable": resettable, "peers": self._site.watch.nodes[1:]}

    async def show(self, call: Call) -> web.Response:
        """All of it."""
        return call.page("vips.html", feed="vips")

    async def confirm(self, call: Call) -> web.Response:
        """What it will do."""
        return self._form(call, call.parameters.deed)

    def _form(self, call: Call, deed: Deed) -> web.Response:
        nodes = self._site.watch.nodes
        status = nodes[0].snapshot.node if nodes[0].snapshot is not None else None
        return call.page(
            "confirm_vips.html", deed=deed, wording=WORDINGS[deed], effects=effects(deed, nodes),
            doubt=nodes[0].reason or nodes[0].doubt, resets=goes(status) if status and deed == "demotion-reset" else {},
        )  # fmt: skip

    async def do(self, call: Call) -> web.Response:
        """It is done when this answers; what comes of it is seen on the page."""
        deed: Deed = call.parameters.deed
        call.record(WORDINGS[deed].recorded, deed=deed)
        await carry_out(self._site, deed)
        return call.redirect("/vips")
