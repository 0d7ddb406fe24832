"""What the node's status says of the control worker: its services, the sections that were applied, how pushes ended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from hacore.control.config import Configuration
from hacore.control.problems import ApiError
from hacore.control.services import ServicesPart
from hacore.node.control_snapshot import ControlStatus, PushCount, PushResult, SectionApplied
from hacore.services.service import Report

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: Seconds between two looks at the services while nothing happens to them here.
LOOK_INTERVAL = 5.0
#: Of what a failed service wrote, in a status that is sent once a second.
LOG_LINES = 8
LOG_CHARACTERS = 300


class Figures:
    """A part of the worker."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._services = worker.part(ServicesPart)
        self._configuration = worker.part(Configuration)
        self._pushes: dict[tuple[str, str, str], PushCount] = {}
        self._seen: list[Report] = []
        self._seen_at = 0.0
        worker.on_start(self._start)

    async def _start(self) -> None:
        self._worker.spawn(self._look(), "looking at the services")

    def push_ended(self, direction: Literal["to", "from"], peer: str, result: PushResult) -> None:
        """One more."""
        key = (direction, peer, result)
        before = self._pushes.get(key)
        count = before.count + 1 if before is not None else 1
        self._pushes[key] = PushCount(peer=peer, direction=direction, result=result, count=count, last=time.time())
        self._tell()

    async def _look(self) -> None:
        changed = self._services.changed
        while True:
            changed.clear()
            if self._worker.settings.services or self._seen:
                self._seen = [_short(one) for one in (await self._services.reports()).services]
                self._seen_at = time.time()
            self._tell()
            try:
                async with asyncio.timeout(LOOK_INTERVAL):
                    await changed.wait()
            except TimeoutError:
                pass

    def _tell(self) -> None:
        self._worker.tell_status(
            ControlStatus(
                generated=time.time(),
                pushes=list(self._pushes.values()),
                sections=self._sections(),
                services=self._seen,
                services_seen=self._seen_at,
            )
        )

    def _sections(self) -> list[SectionApplied]:
        try:
            last = self._configuration.node.parts.revisions.last()
        except ApiError:
            return []  # there is a warning that says why
        return [
            SectionApplied(id=name, revision=brought.revision, applied_at=brought.at, by=brought.by)
            for name, applied in (last.sections.items() if last is not None else ())
            if (brought := applied.brought) is not None
        ]


def _short(report: Report) -> Report:
    return msgspec.structs.replace(report, log=[line[:LOG_CHARACTERS] for line in report.log[-LOG_LINES:]])
