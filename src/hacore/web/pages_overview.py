"""The first page: both nodes side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from hacore.web.live import Feed, Region
from hacore.web.registry import Call, Route
from hacore.web.verdict import names

if TYPE_CHECKING:
    from hacore.web.site import Site


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    site.live.add(
        Feed(
            "overview",
            [Region("roles", "_roles.html", lambda _now: {"nodes": site.watch.nodes, "vips": names(site.watch.nodes)})],
        )
    )
    return [Route("GET", "/", show, "Overview", menu=10)]


async def show(call: Call) -> web.Response:
    """All of it."""
    return call.page("overview.html", feed="overview")
