"""The services of this node as a part of the control worker, for its routes and for the push."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control.config import Configuration, PushedServices
from hacore.control.problems import ApiError, not_found
from hacore.node.config_surroundings import Restarted, Standing
from hacore.node.services import Services
from hacore.services.service import Action, FollowsVip, Outcome, Report, State, UnknownService

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
        worker.part(Configuration).services = PushedServices(
            self._look_for_push, self._restart_for_push, self._stop_for_push
        )

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

    # For a push

    async def _until_known(self, services: Sequence[str]) -> None:
        """The settings that the push brought may be on their way to this process."""
        deadline = time.monotonic() + SETTINGS_TIMEOUT
        while not {*services} <= {one.id for one in self._worker.settings.services} and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def _look_for_push(self, services: Sequence[str]) -> list[Standing]:
        await self._until_known(services)
        found = {name: Standing(name, None) for name in services}
        async for name, state, began in self._services.look(services):
            found[name] = Standing(name, None if state is State.UNKNOWN else state.runs, began)
        return list(found.values())

    async def _restart_for_push(self, services: Sequence[str]) -> list[Restarted]:
        return await self._each(services, self._services.restart, "restarted")

    async def _stop_for_push(self, services: Sequence[str]) -> list[Restarted]:
        return await self._each(services, self._services.stop, "stopped")

    async def _each(
        self, services: Sequence[str], work: Callable[[Sequence[str], str], AsyncIterator[Outcome]], done: str
    ) -> list[Restarted]:
        """What became of each."""
        await self._until_known(services)
        try:
            outcomes = [one async for one in work(services, "a push")]
        except UnknownService as error:
            return [Restarted(name, False, str(error)) for name in services]
        return [Restarted(one.id, one.ok, _text(one, done)) for one in outcomes]


def _text(outcome: Outcome, done: str) -> str:
    if outcome.ok:
        return f"skipped: {outcome.message}" if outcome.skipped else done
    return "\n".join([f"not {done}: {outcome.message}", *outcome.output.splitlines()])
