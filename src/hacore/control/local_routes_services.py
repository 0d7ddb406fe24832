"""Services of this node and, through it, of its peers, for the local command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control import routes_services
from hacore.control.registry import Call, Route
from hacore.control.routes_services import OneAction
from hacore.control.services import ACTION_TIMEOUT, ServiceList
from hacore.services.service import Outcome

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class Where(Struct, kw_only=True):
    """On a peer instead of here."""

    peer: str = ""


def routes(_worker: ControlWorker) -> list[Route]:
    """Served on the Unix socket."""
    return [
        Route("GET", "/services", services, "The services and how they are", response=ServiceList, query=Where),
        Route(
            "POST", "/services/{id}/{action}", act, "Start, stop or restart a service, and wait for the result",
            response=Outcome, parameters=OneAction, query=Where,
        ),
        Route(
            "POST", "/services/restart-all", restart_all, "Restart all services in the order of the settings",
            response=Outcome, query=Where, streams=True,
        ),
    ]  # fmt: skip


async def services(call: Call) -> ServiceList:
    """Here or on the peer."""
    if not call.query.peer:
        return await routes_services.services(call)
    return await call.worker.peer(call.query.peer).ask("GET", "/services", response=ServiceList)


async def act(call: Call) -> Outcome:
    """Here or on the peer."""
    if not call.query.peer:
        return await routes_services.act(call)
    path = f"/services/{call.parameters.id}/{call.parameters.action}"
    return await call.worker.peer(call.query.peer).ask("POST", path, response=Outcome, timeout=ACTION_TIMEOUT)


async def restart_all(call: Call) -> AsyncIterator[Outcome]:
    """Here or on the peer."""
    lines: AsyncIterator[Outcome]
    if call.query.peer:
        lines = call.worker.peer(call.query.peer).stream("POST", "/services/restart-all", response=Outcome)
    else:
        lines = routes_services.restart_all(call)
    async for outcome in lines:
        yield outcome
