"""What a job does, step by step: the handlers of the command line, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from hacore.control.config_schemas import AtPeer, Line, OneRevision, PushOrder, RollBackOrder
from hacore.control.local_routes_config import LocalHandlers
from hacore.control.local_routes_services import Where, act, restart_all, services
from hacore.control.problems import ApiError
from hacore.control.routes_services import OneAction
from hacore.services.service import Action, Outcome
from hacore.web.jobs import Job, Work
from hacore.web.local_calls import local_call

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


def update(worker: ControlWorker, order: PushOrder) -> Work:
    """A push; with restart "all" then every service that the push did not restart, too."""

    async def work(job: Job) -> AsyncIterator[Line | Outcome]:
        outcome = None
        async for line in LocalHandlers(worker).push(local_call(worker, job.by, body=order)):
            outcome = line.outcome or outcome
            yield line
        if order.restart != "all" or outcome is None or outcome.failure is not None:
            return
        for name in await _names(worker, job):
            if name not in outcome.services:
                job.begin_step("Restart", name)
                yield await _restart(worker, job, name)

    return work


def restore(worker: ControlWorker, number: int, order: RollBackOrder) -> Work:
    """A return to a revision of the peer."""

    async def work(job: Job) -> AsyncIterator[Line | Outcome]:
        call = local_call(
            worker, job.by, query=AtPeer(peer=job.peer), parameters=OneRevision(number=number), body=order
        )
        async for line in LocalHandlers(worker).restore(call):
            yield line

    return work


def restart_services(worker: ControlWorker) -> Work:
    """All services of the peer, in the order of its settings."""

    async def work(job: Job) -> AsyncIterator[Line | Outcome]:
        names = await _names(worker, job)
        left = iter(names)
        job.begin_step("Restart", next(left, "nothing: there are no services"))
        async for outcome in restart_all(local_call(worker, job.by, query=Where(peer=job.peer))):
            yield outcome
            if (name := next(left, None)) is not None:
                job.begin_step("Restart", name)

    return work


async def _names(worker: ControlWorker, job: Job) -> list[str]:
    listed = await services(local_call(worker, job.by, query=Where(peer=job.peer)))
    return [one.id for one in listed.services]


async def _restart(worker: ControlWorker, job: Job, name: str) -> Outcome:
    asked = OneAction(id=name, action=Action.RESTART)
    try:
        return await act(local_call(worker, job.by, query=Where(peer=job.peer), parameters=asked))
    except ApiError as error:
        if error.code != "follows-vip":
            raise
        return Outcome(id=name, action=Action.RESTART, ok=True, skipped=True, message=error.message)
