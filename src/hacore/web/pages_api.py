"""For programs, with tokens: `/metrics`, and `/api/v1/...`, which is what the command line is answered with.

The routes under `/api/v1` are those of `control.local_routes_*` that concern states, services and configuration, with
the same handlers; besides them there are those of the pages that the command line does over the local bus.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web
from msgspec import Struct

from hacore.control import local_routes_config, local_routes_node, local_routes_services
from hacore.control import registry as control_registry
from hacore.control.answering import LINES
from hacore.control.problems import ApiError
from hacore.control.registry import strict
from hacore.errors import HacoreError
from hacore.node.snapshot import Snapshot
from hacore.web.foresight import Deed, Effect, effects
from hacore.web.local_calls import local_call
from hacore.web.pages_vips import WORDINGS, OneDeed, carry_out
from hacore.web.registry import Call, Route

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker
    from hacore.web.site import Site

ROOT = "/api/v1"
MODULES = (local_routes_node, local_routes_services, local_routes_config)
#: Of those modules: about the worker's own listener and its own document.
LEFT_OUT = {"/control", "/openapi.json"}
MOST_EVENTS = 1000


class NodeSeen(Struct, kw_only=True):
    """A node as this one hears it: `known` whether its last word, at `at` (0: none), is young enough to be believed;
    if not, `reason` says why there is none. Without a word there is no `snapshot`.
    """

    name: str
    here: bool
    known: bool
    at: float
    reason: str = ""
    doubt: str = ""
    snapshot: Snapshot | None = None


class WantedEvents(Struct, kw_only=True):
    """The latest `limit` events with a number above `after`."""

    limit: int = 100
    after: int = 0


class Foreseen(Struct, kw_only=True):
    """What a deed would do now."""

    deed: Deed
    effects: list[Effect]


class Done(Struct, kw_only=True):
    """It is done; `effects` is what was foreseen."""

    deed: Deed
    effects: list[Effect]


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    part = Api(site)
    listed = [
        Route("GET", "/metrics", part.metrics, "Figures for Prometheus", by="token"),
        Route("GET", f"{ROOT}/nodes", part.nodes, "Every node as this one hears it", by="token"),
        Route("GET", f"{ROOT}/events", part.events, "The event history", by="token", query=WantedEvents),
        Route("GET", f"{ROOT}/vips/{{deed}}", part.foresee, "What it would do", by="token", parameters=OneDeed),
        Route(
            "POST", f"{ROOT}/vips/{{deed}}", part.do, "Do it", needs="administrator", by="token", parameters=OneDeed
        ),
    ]  # fmt: skip
    for module in MODULES:
        listed += [_route(site.worker, one) for one in module.routes(site.worker) if one.path not in LEFT_OUT]
    return listed


class Api:
    """What is not asked of the local routes."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def metrics(self, call: Call) -> web.Response:
        """Asked of the node at this moment, so that what is told is as old as the scrape."""
        from hacore.web.metrics import Peer, scrape

        try:
            snapshot = msgspec.convert(await self._site.worker.bus.request("status"), Snapshot)
        except (HacoreError, msgspec.ValidationError):
            snapshot = None
        peers = [Peer(one.name, one.is_known(), one.at) for one in self._site.watch.peers]
        answer = scrape(snapshot, peers, call.request.headers.get("Accept", ""))
        return web.Response(body=answer.body, headers={"Content-Type": answer.content_type})

    async def nodes(self, call: Call) -> web.Response:
        """As on the pages."""
        return call.json(
            [
                NodeSeen(
                    name=one.name, here=one.here, known=one.is_known(), at=one.at, reason=one.reason, doubt=one.doubt,
                    snapshot=one.snapshot,
                )
                for one in self._site.watch.nodes
            ]
        )  # fmt: skip

    async def events(self, call: Call) -> web.Response:
        """The oldest first."""
        limit = max(0, min(call.query.limit, MOST_EVENTS))
        return call.json(await self._site.worker.bus.request("events", limit=limit, after=call.query.after))

    async def foresee(self, call: Call) -> web.Response:
        """Does nothing."""
        deed: Deed = call.parameters.deed
        return call.json(Foreseen(deed=deed, effects=effects(deed, self._site.watch.nodes)))

    async def do(self, call: Call) -> web.Response:
        """It is done when this answers."""
        deed: Deed = call.parameters.deed
        foreseen = effects(deed, self._site.watch.nodes)
        call.record(WORDINGS[deed].recorded, deed=deed)
        await carry_out(self._site, deed)
        return call.json(Done(deed=deed, effects=foreseen))


def _route(worker: ControlWorker, one: control_registry.Route) -> Route:
    """The same under another root; whatever is no question needs an administrator's token."""

    async def handle(call: Call) -> web.StreamResponse:
        asked = local_call(worker, call.by, query=call.query, body=call.form, parameters=call.parameters)
        if one.method != "GET":
            call.record(f"{one.method} {call.request.path_qs[:200]}")
        if one.streams:
            lines = cast("Callable[[control_registry.Call], AsyncIterator[object]]", one.handler)(asked)
            return await _stream(call, lines)
        answer = await cast("Callable[[control_registry.Call], Awaitable[object]]", one.handler)(asked)
        return call.json(answer)

    assert one.method in ("GET", "POST")
    return Route(
        one.method, ROOT + one.path, handle, one.summary,
        needs="viewer" if one.method == "GET" else "administrator", by="token",
        form=strict(one.request) if one.request is not None else None, parameters=one.parameters, query=one.query,
        body_bytes=one.body_bytes,
    )  # fmt: skip


async def _stream(call: Call, lines: AsyncIterator[Any]) -> web.StreamResponse:
    """One JSON line for each; a refusal after the first is the last line. What was begun goes on without its asker."""
    from hacore.web.answering import secure

    line = await anext(lines, None)
    response = web.StreamResponse(headers={"Content-Type": LINES})
    secure(response)
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    listening = True
    try:
        while line is not None:
            listening = listening and await _said(response, line)
            line = await anext(lines, None)
    except ApiError as error:
        listening = listening and await _said(response, error.body())
    except HacoreError as error:
        listening = listening and await _said(response, ApiError(500, "failed", str(error)).body())
    if listening:
        await response.write_eof()
    return response


async def _said(response: web.StreamResponse, line: object) -> bool:
    try:
        await response.write(msgspec.json.encode(line) + b"\n")
    except ConnectionError:
        return False
    return True
