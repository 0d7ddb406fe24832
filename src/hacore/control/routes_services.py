"""Services of this node, for its peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control.figures import Figures
from hacore.control.registry import Call, Route
from hacore.control.services import ServiceList, ServicesPart
from hacore.services.service import Action, Outcome

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class OneAction(Struct, kw_only=True):
    """What is asked of which service."""

    id: str
    action: Action


def routes(worker: ControlWorker) -> list[Route]:
    """Served to the peers that have the right "services"."""
    worker.part(ServicesPart)  # services that follow a VIP do so from the start, whether or not anybody asks
    worker.part(Figures)
    return [
        Route("GET", "/services", services, "The services and how they are", response=ServiceList, needs="services"),
        Route(
            "POST", "/services/{id}/{action}", act, "Start, stop or restart a service, and wait for the result",
            response=Outcome, parameters=OneAction, needs="services",
        ),
        Route(
            "POST", "/services/restart-all", restart_all, "Restart all services in the order of the settings",
            response=Outcome, needs="services", streams=True,
        ),
    ]  # fmt: skip


async def services(call: Call) -> ServiceList:
    """Asked at this moment."""
    return await call.worker.part(ServicesPart).reports()


async def act(call: Call) -> Outcome:
    """A failure is an outcome too; refused is only what is not to be done."""
    return await call.worker.part(ServicesPart).act(call.parameters.id, call.parameters.action, call.asker)


async def restart_all(call: Call) -> AsyncIterator[Outcome]:
    """One line for each, as it is done."""
    async for outcome in call.worker.part(ServicesPart).restart(None, call.asker):
        yield outcome
