"""The services of this node as a part of the control worker, for its routes and for the push."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control.config import Configuration
from hacore.control.problems import ApiError, not_found
from hacore.node.config_surroundings import Restarted
from hacore.node.services import Services
from hacore.services.service import Action, FollowsVip, Outcome, Report, UnknownService

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: When the node ends: until the followers have stopped. It is counted in the supervisor's time for this worker.
LEAVE_TIMEOUT = 5.0
#: For one action: a restart may be a stop and a start, each as long as the settings allow.
ACTION_TIMEOUT = 320.0
#: Until settings that a push brought are in force in this process.
SETTINGS_TIMEOUT = 10.0


class ServiceList(Struct, kw_only=True):
    """The services of a node, in the order of its settings; `now` is its clock."""

    node: str
    now: float
    services: list[Report]


class ServicesPart:
    """`worker.part(ServicesPart)`."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self.changed = asyncio.Event()
        """Something was done to a service, or the settings name others."""
        self._services = Services(worker.settings.node.runtime_dir, self._record)
        self._known: set[str] = set()
        self._load()
        worker.on_reload(self._load)
        worker.on_transition(lambda _vip, _old, _new, _epoch: self._roles())
        worker.on_stop(self._leave)
        worker.part(Configuration).restart_services = self._restart_for_push

    def _record(self, kind: str, text: str) -> None:
        self._worker.record(kind, text)
        self.changed.set()

    def _load(self) -> None:
        self._services.load(self._worker.settings.services)
        self.changed.set()
        self._roles()

    def _roles(self) -> None:
        """Once every VIP that is followed was heard of: before that, its service would be stopped where it is held."""
        self._known |= set(self._worker.states)
        followed = {service.vip for service in self._worker.settings.services if service.vip}
        if followed <= self._known:
            self._services.roles(self._worker.masters)

    async def _leave(self) -> None:
        await self._services.leave(LEAVE_TIMEOUT)

    async def reports(self) -> ServiceList:
        """How all of them are."""
        return ServiceList(node=self._worker.name, now=time.time(), services=await self._services.list())

    async def act(self, service: str, action: Action, by: str) -> Outcome:
        """Does it, also when who asked does not wait; raises ApiError where it is not to be done."""
        task = self._worker.spawn(self._services.act(service, action, by), f"{action} {service}")
        try:
            return await asyncio.shield(task)
        except UnknownService as error:
            raise not_found(f"{self._worker.name}: {error}") from None
        except FollowsVip as error:
            raise ApiError(409, "follows-vip", f"{self._worker.name}: {error}") from None

    async def restart(self, services: Collection[str] | None, by: str) -> AsyncIterator[Outcome]:
        """Restarts these (None: all) in the order of the settings; raises ApiError for one that is not there."""
        try:
            async for outcome in self._services.restart(services, by):
                yield outcome
        except UnknownService as error:
            raise not_found(f"{self._worker.name}: {error}") from None

    async def _restart_for_push(self, services: Sequence[str]) -> list[Restarted]:
        """What became of each. The settings that the push brought may be on their way to this process."""
        deadline = time.monotonic() + SETTINGS_TIMEOUT
        while not {*services} <= {one.id for one in self._worker.settings.services} and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        try:
            outcomes = [one async for one in self._services.restart(services, "a push")]
        except UnknownService as error:
            return [Restarted(name, False, str(error)) for name in services]
        return [Restarted(one.id, one.ok, _text(one)) for one in outcomes]


def _text(outcome: Outcome) -> str:
    if outcome.ok:
        return f"skipped: {outcome.message}" if outcome.skipped else "restarted"
    return "\n".join(["not restarted: " + outcome.message, *outcome.output.splitlines()])
