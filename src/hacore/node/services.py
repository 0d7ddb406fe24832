"""The services of this node: their list, what is asked of them, and those that follow a VIP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from hacore.linux.systemd import Systemd
from hacore.node import settings
from hacore.node.services_control import Control
from hacore.services.followers import Followers, Order
from hacore.services.service import Action, FollowsVip, Outcome, Report, Service, State, check_allowed, find, in_order

#: Seconds after a fault in following.
FAULT_PAUSE = 1.0

#: (kind, text) of something for the history of the node.
Emit = Callable[[str, str], None]


def model(table: settings.Service) -> Service:
    """What the settings say, as the model has it."""
    return Service(
        id=table.id,
        description=table.description,
        unit=table.unit or "",
        start=table.start,
        stop=table.stop,
        status=table.status,
        vip=table.vip or "",
    )


class Services:
    """Made inside a running loop; `close` ends it and leaves every service as it is, `leave` stops the followers."""

    def __init__(self, runtime_dir: Path, emit: Emit, systemd: Systemd | None = None) -> None:
        self._control = Control(runtime_dir / "services", systemd)
        self._emit = emit
        self._services: list[Service] = []
        self._timeouts: dict[str, float] = {}
        self._held: frozenset[str] | None = None
        self._followers = Followers()
        self._steps: dict[str, asyncio.Task[Any]] = {}
        self._wake = asyncio.Event()
        self._following = asyncio.create_task(self._follow(), name="followers")

    def load(self, tables: Sequence[settings.Service]) -> None:
        """Takes the settings, at the start and on each reload or push."""
        self._services = [model(table) for table in tables]
        self._timeouts = {table.id: table.timeout for table in tables}
        self._followers.load([(one.id, one.vip) for one in self._services if one.vip], _now())
        self._wake.set()

    def roles(self, held: Collection[str]) -> None:
        """This node is MASTER of these VIPs, and of no other."""
        self._held = frozenset(held)
        self._followers.roles(held, _now())
        self._wake.set()

    async def list(self) -> list[Report]:
        """All, in the order of the settings."""
        services = list(self._services)
        return [
            self._with_standing(report)
            for report in await asyncio.gather(*(self._control.report(one) for one in services))
        ]

    async def look(self, wanted: Collection[str]) -> AsyncIterator[tuple[str, State, float | None]]:
        """Of those named that the settings have: how each is, and when its last run began by the monotonic clock."""
        services = [service for service in self._services if service.id in wanted]
        found = await asyncio.gather(*(self._control.run(service) for service in services))
        for service, (state, began) in zip(services, found, strict=True):
            yield service.id, state, began

    async def act(self, service_id: str, action: Action, by: str) -> Outcome:
        """Does it and tells the history; `by` is who asked.

        Raises UnknownService, and FollowsVip where that would contradict the VIP it follows.
        """
        service = find(self._services, service_id)
        check_allowed(service, action, self._held)
        return await self._do(service, action, by)

    async def restart(self, wanted: Collection[str] | None, by: str) -> AsyncIterator[Outcome]:
        """Restarts those named (None: all), one after the other in the order of the settings.

        A follower of a VIP that is elsewhere is skipped; one that fails does not keep the others from their turn.
        Raises UnknownService, before anything is done, for a name that is not there.
        """
        services = list(self._services) if wanted is None else in_order(self._services, wanted)
        for service in services:
            yield await self._do_if_allowed(service, Action.RESTART, by)

    async def stop(self, wanted: Collection[str], by: str) -> AsyncIterator[Outcome]:
        """Stops those named, in the reverse order of the settings; the rest is as for `restart`."""
        for service in reversed(in_order(self._services, wanted)):
            yield await self._do_if_allowed(service, Action.STOP, by)

    async def leave(self, limit: float) -> None:
        """The node ends: stops the followers, for at most `limit` seconds, then closes."""
        self._followers.leave(_now())
        self._wake.set()
        deadline = _now() + limit
        while not self._followers.is_gone and _now() < deadline:
            await asyncio.sleep(0.02)
        await self.close()

    async def close(self) -> None:
        """Ends what is under way here; services stay as they are."""
        tasks = [self._following, *self._steps.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._control.close()

    async def _do_if_allowed(self, service: Service, action: Action, by: str) -> Outcome:
        try:
            check_allowed(service, action, self._held)
        except FollowsVip as why:
            return Outcome(id=service.id, action=action, ok=True, skipped=True, message=str(why))
        return await self._do(service, action, by)

    async def _do(self, service: Service, action: Action, by: str) -> Outcome:
        outcome = await self._control.act(service, action, self._timeouts[service.id])
        done = {Action.START: "started", Action.STOP: "stopped", Action.RESTART: "restarted"}[action]
        how = done if outcome.ok else f"not {done}: {outcome.message}"
        self._emit("service", f"{service.id} {how} (asked by {by})")
        self._followers.touched(service.id, _now())
        self._wake.set()
        return outcome

    def _with_standing(self, report: Report) -> Report:
        standing = self._followers.standing(report.id)
        if standing is None:
            return report
        return msgspec.structs.replace(report, follows=standing.vip, wanted=standing.wanted, problem=standing.problem)

    # Followers

    async def _follow(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - a fault here must not leave every VIP without its services
                self._emit("fault", f"services that follow a VIP: {type(error).__name__}: {error}")
                await asyncio.sleep(FAULT_PAUSE)

    async def _turn(self) -> None:
        deadline = self._followers.next_deadline()
        with suppress(TimeoutError):
            # Not wait_for: that of Python 3.11 may lose a cancellation that comes with the event.
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - _now())):
                await self._wake.wait()
        self._wake.clear()
        self._followers.handle_deadline(_now())
        for order in self._followers.orders():
            self._carry_out(order)
        for event in self._followers.events():
            self._emit("service", event.text)

    def _carry_out(self, order: Order) -> None:
        before = self._steps.get(order.service)
        if order.step == "interrupt":
            if before is not None:
                before.cancel()
            return
        service = next(one for one in self._services if one.id == order.service)
        if order.step == "look":
            look = asyncio.create_task(self._control.settled_report(service), name=f"look {order.service}")
            look.add_done_callback(lambda task: self._looked(order, task))
            self._steps[order.service] = look
            return
        action = Action.START if order.step == "start" else Action.STOP
        act = asyncio.create_task(
            self._control.act(service, action, self._timeouts[service.id]), name=f"{order.step} {order.service}"
        )
        act.add_done_callback(lambda task: self._acted(order, task))
        self._steps[order.service] = act

    def _looked(self, order: Order, task: asyncio.Task[Report]) -> None:
        if task.cancelled():
            return  # closing
        if error := task.exception():
            self._followers.observed(order.service, None, f"{type(error).__name__}: {error}", _now())
        else:
            report = task.result()
            runs = None if report.state is State.UNKNOWN else report.state.runs
            self._followers.observed(order.service, runs, report.detail, _now())
        self._wake.set()

    def _acted(self, order: Order, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            problem = "interrupted"
        elif error := task.exception():
            problem = f"{type(error).__name__}: {error}"
        else:
            outcome = task.result()
            gone = order.step == "stop" and outcome.state is State.MISSING
            last = outcome.output.splitlines()[-1:]
            problem = "" if outcome.ok or gone else ": ".join([outcome.message, *last])
        self._followers.finished(order, problem, _now())
        self._wake.set()


def _now() -> float:
    return time.monotonic()
